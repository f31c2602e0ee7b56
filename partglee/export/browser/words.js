// Names as people write them, read by the names of the model's table: as `partglee.text.words` does, without the step
// that needs a sentence encoder. A word that no table and no dictionary maps is left out, and that is told.

const PART_OF = 9; // of synonyms.txt: the word is a part of the thing
const ARTICLES = ["a ", "an ", "the "];
const NEAR = 3;

export class Refused extends Error {}

/** Lower case, separators as single spaces, bracketed remarks dropped. */
export function plain(name) {
  const text = name.toLowerCase().replace(/\([^)]*\)/g, " ").replaceAll("'s ", " ").replace(/[:_]/g, " ");
  return text.split(/\s+/).filter(Boolean).join(" ");
}

const tidy = (name) => name.split(/\s+/).filter(Boolean).join(" ");
const quoted = (names) => names.map((name) => `'${name}'`).join(", ");

/** "car: wheel, door; person" -> [["car", ["wheel", "door"]], ["person", []]]. */
export function split(text) {
  if (!text.trim()) throw new Refused("The list of names is empty; write for example car: wheel, door; person.");
  const pairs = [];
  for (const segment of text.split(/[;\n]/).map((one) => one.trim())) {
    if (!segment) continue;
    const [name, ...rest] = segment.split(":");
    if (rest.length > 1) throw new Refused(`'${segment}' has two ':'; separate objects with ';' as in car: wheel; dog: tail.`);
    if (!rest.length) {
      pairs.push(...name.split(",").map((one) => [tidy(one), []]));
      continue;
    }
    if (!name.trim()) throw new Refused(`'${segment}' lists parts of no object; write object: ${rest[0].trim()}.`);
    if (name.includes(",")) throw new Refused(`'${segment}' lists parts of several objects; separate objects with ';'.`);
    pairs.push([tidy(name), rest[0].trim() ? rest[0].split(",").map(tidy) : []]);
  }
  if (!pairs.length) throw new Refused("The list of names is empty; write for example car: wheel, door; person.");
  once(pairs.map(([name]) => name), "object");
  for (const [name, parts] of pairs) once(parts, `part of '${name}'`);
  return pairs;
}

function once(names, what) {
  const seen = new Set();
  for (const name of names) {
    if (!name) throw new Refused(`A name of ${what.startsWith("part") ? `a ${what}` : "an object"} is blank; remove a ',' or write a name.`);
    if (seen.has(name.toLowerCase())) throw new Refused(`The ${what} '${name}' is given twice; remove one.`);
    seen.add(name.toLowerCase());
  }
}

export class Words {
  /** @param names of the table, in its order; @param vectors of them, one after the other; @param plurals, synonyms texts of
   *  the files of those names */
  constructor({ names, vectors, plurals, synonyms }) {
    this.vectors = vectors;
    this.width = vectors.length / names.length;
    this.exact = new Map(); // as the table writes it -> row
    this.rows = new Map(); // plain name -> row
    this.owners = new Map(); // part -> objects that have it
    names.forEach((name, row) => {
      if (!this.exact.has(name)) this.exact.set(name, row);
      if (!this.rows.has(plain(name))) this.rows.set(plain(name), row);
      const colon = name.indexOf(":");
      if (colon < 0) return;
      const part = plain(name.slice(colon + 1)), owner = plain(name.slice(0, colon));
      if (!this.owners.has(part)) this.owners.set(part, []);
      if (!this.owners.get(part).includes(owner)) this.owners.get(part).push(owner);
    });
    const owned = new Set([...this.owners].flatMap(([part, of]) => of.map((owner) => `${owner} ${part}`)));
    this.alone = new Set([...this.rows.keys()].filter((name) => !owned.has(name)));
    this.plurals = new Map(lines(plurals).map((line) => line.split("\t")));
    this.meanings = new Map(); // word -> [name, steps], the nearest first
    for (const line of lines(synonyms)) {
      const [name, steps, words] = line.split("\t");
      for (const word of words.split(",")) {
        if (!this.meanings.has(word)) this.meanings.set(word, []);
        this.meanings.get(word).push([name, Number(steps)]);
      }
    }
    for (const told of this.meanings.values()) told.sort((a, b) => a[1] - b[1]);
  }

  /** A vocabulary as columns of the network. Names stay as they were asked.
   *  -> {objects: [{name, row}], parts: [{name, row, owner}], notes}; `row` of the table, `owner` a place in objects */
  read(text) {
    const objects = [], parts = [], others = [], left = [];
    for (const [name, wanted] of split(text)) {
      const as = this.has(name) ? name : this.object(name);
      if (as === null) {
        left.push(`'${name}' (nearest: ${quoted(this.near(name)) || "none"})`);
        continue;
      }
      if (!this.has(name) && plain(as) !== plain(name)) others.push(`'${name}' as '${as}'`);
      const owner = objects.push({ name, row: this.row(as) }) - 1;
      for (const part of wanted) {
        const found = this.has(`${name} ${part}`) ? `${name} ${part}` : this.part(name, part, as);
        if (found === null) {
          left.push(`'${name}: ${part}' (nearest: ${quoted(this.near(part)) || "none"})`);
          continue;
        }
        if (![plain(part), plain(`${as} ${part}`), plain(`${name} ${part}`)].includes(plain(found)))
          others.push(`'${name}: ${part}' as '${found}'`);
        parts.push({ name: part, row: this.row(found), owner });
      }
    }
    if (!objects.length) throw new Refused(`This page knows none of these names: ${left.join("; ")}. Type a letter to see known ones.`);
    const notes = [];
    if (others.length) notes.push(`the name table lacks some names, which are read as others: ${others.join("; ")}`);
    if (left.length) notes.push(`nothing near enough is known of these names, which are left out: ${left.join("; ")}`);
    return { objects, parts, notes };
  }

  has(name) {
    return this.exact.has(name) || this.rows.has(plain(name));
  }

  row(name) {
    return this.exact.get(name) ?? this.rows.get(plain(name));
  }

  /** What the table calls an object; null = it has nothing of the kind. */
  object(word) {
    if (this.has(word)) return word;
    const last = lastWord(word);
    return this.spelled(word, this.rows) ?? this.dictionary(word, this.rows) ?? (last ? this.spelled(last, this.rows) : null) ?? null;
  }

  /** What the table calls a part. @param owner as it was asked; @param as what the object is read as */
  part(owner, word, as) {
    const of = plain(as), last = lastWord(word);
    const whole = `${plain(owner)} ${plain(word)}`;
    if (this.rows.has(whole)) return whole;
    const under = new Set([...this.owners].filter(([, objects]) => objects.includes(of)).map(([part]) => part));
    const ofIt = (name) => (name === undefined || name === null ? null : `${of} ${name}`);
    const elsewhere = () => {
      const name = this.spelled(word, this.owners) ?? this.synonym(word, this.owners);
      return name == null ? null : `${this.mostLike(of, this.owners.get(name))} ${name}`;
    };
    return (
      ofIt(this.spelled(word, under)) ?? this.spelled(word, this.alone) ?? ofIt(this.dictionary(word, under, true)) ??
      this.synonym(word, this.alone) ?? elsewhere() ?? (last ? ofIt(this.spelled(last, under)) : null) ??
      this.dictionary(word, this.alone) ?? (last ? this.spelled(last, this.alone) : null) ?? null
    );
  }

  /** Of several objects the one whose vector is most like that of a name, seen from the mean of all. */
  mostLike(name, others) {
    const there = others.filter((other) => this.rows.has(other));
    if (!this.rows.has(name) || !there.length) return others[0];
    const all = [...this.rows.values()], places = [...Array(this.width).keys()];
    const mean = places.map((place) => all.reduce((sum, row) => sum + this.vectors[row * this.width + place], 0) / all.length);
    const centred = (row) => places.map((place) => this.vectors[row * this.width + place] - mean[place]);
    const own = centred(this.rows.get(name));
    const likeness = there.map((other) => {
      const vector = centred(this.rows.get(other));
      return places.reduce((sum, place) => sum + own[place] * vector[place], 0) / Math.hypot(...vector);
    });
    return there[likeness.indexOf(Math.max(...likeness))];
  }

  spelled(word, known) {
    return this.forms(word).find((form) => known.has(form));
  }

  dictionary(word, known, parts = false) {
    const told = this.forms(word).flatMap((form) => this.meanings.get(form) ?? []);
    const usable = told.filter(([, steps]) => parts || steps < PART_OF).sort((a, b) => a[1] - b[1]);
    return usable.find(([name]) => known.has(name))?.[0];
  }

  synonym(word, known) {
    const told = this.forms(word).flatMap((form) => this.meanings.get(form) ?? []);
    return told.find(([name, steps]) => steps === 0 && known.has(name))?.[0];
  }

  /** Plain forms of a word, as it is first: without article, hyphens as spaces or as nothing, the singular, two words as
   *  one. */
  forms(word) {
    let text = plain(word);
    const article = ARTICLES.find((one) => text.startsWith(one));
    if (article) text = text.slice(article.length);
    const spelled = [text, text.replaceAll("-", " "), text.replaceAll("-", "")];
    if (text.replaceAll("-", " ").split(" ").length === 2) spelled.push(text.replaceAll("-", "").replace(" ", ""));
    return [...new Set(spelled.flatMap((one) => [one, ...this.singular(one)]))];
  }

  singular(text) {
    const at = text.lastIndexOf(" ") + 1, before = text.slice(0, at), last = text.slice(at);
    const cut = (count, ending = "") => before + last.slice(0, last.length - count) + ending;
    if (this.plurals.has(last)) return [before + this.plurals.get(last)];
    if (last.endsWith("men")) return [cut(2, "an")];
    if (last.endsWith("ies") && last.length > 4) return [cut(3, "y")];
    if (/(s|x|z|ch|sh)es$/.test(last)) return [cut(2), cut(1)];
    if (/[^sui]s$/.test(last) && last.length > 3) return [cut(1)];
    return last.endsWith("oes") ? [cut(2)] : [];
  }

  /** Names that look most like a word: shared pairs of letters. */
  near(word) {
    const own = pairsOf(plain(word));
    const ranked = [...this.alone].map((name) => {
      const other = pairsOf(name);
      return [[...own].filter((pair) => other.has(pair)).length / (own.size + other.size), name];
    });
    return ranked.filter(([score]) => score > 0.2).sort((a, b) => b[0] - a[0]).slice(0, NEAR).map(([, name]) => name);
  }
}

const lines = (text) => text.split("\n").filter(Boolean);
const pairsOf = (word) => new Set([...` ${word} `].slice(1).map((letter, i) => ` ${word} `[i] + letter));

function lastWord(word) {
  const text = plain(word), at = text.lastIndexOf(" ");
  return at > 0 ? text.slice(at + 1) : "";
}
