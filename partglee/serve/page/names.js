// Completion in the vocabulary: names of objects, or of the parts of the object before the colon.

/** What is typed at the caret: its start, the word, and the object whose part it is. */
export function wordAt(text, caret) {
  const before = text.slice(0, caret), segment = before.slice(Math.max(before.lastIndexOf(";"), before.lastIndexOf("\n")) + 1);
  const colon = segment.indexOf(":"), start = Math.max(...[";", "\n", ",", ":"].map((sign) => before.lastIndexOf(sign))) + 1;
  const word = before.slice(start), blank = word.length - word.trimStart().length;
  return { start: start + blank, word: word.trim(), of: colon < 0 ? null : segment.slice(0, colon).trim() };
}

export class Completion {
  /** @param complete (prefix, object) -> names */
  constructor(field, list, complete) {
    Object.assign(this, { field, list, complete, chosen: -1, asked: 0 });
    field.addEventListener("input", () => this.ask());
    field.addEventListener("keydown", (event) => this.key(event));
    field.addEventListener("blur", () => setTimeout(() => this.close(), 150));
    list.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      const item = event.target.closest("li");
      if (item) this.take(item.dataset.name);
    });
  }

  async ask() {
    const here = wordAt(this.field.value, this.field.selectionStart), asked = ++this.asked;
    if (!here.word) return this.close();
    const names = await this.complete(here.word, here.of).catch(() => []);
    if (asked !== this.asked) return;
    const typed = here.word.toLowerCase();
    const others = names.filter((name) => name.toLowerCase() !== typed).slice(0, 8);
    if (!others.length) return this.close();
    this.list.replaceChildren(...others.map((name, i) => this.item(name, typed, i)));
    this.list.hidden = false;
    this.field.setAttribute("aria-expanded", "true");
    this.choose(-1);
  }

  item(name, typed, i) {
    const item = document.createElement("li"), at = name.toLowerCase().indexOf(typed);
    item.id = `choice-${i}`;
    item.setAttribute("role", "option");
    item.dataset.name = name;
    const strong = document.createElement("b");
    strong.textContent = name.slice(at, at + typed.length);
    item.append(name.slice(0, Math.max(0, at)), strong, name.slice(at + typed.length));
    return item;
  }

  choose(i) {
    const items = [...this.list.children];
    this.chosen = items.length ? Math.max(-1, Math.min(i, items.length - 1)) : -1;
    items.forEach((item, j) => item.setAttribute("aria-selected", String(j === this.chosen)));
    items[this.chosen]?.scrollIntoView({ block: "nearest" });
    if (this.chosen >= 0) this.field.setAttribute("aria-activedescendant", `choice-${this.chosen}`);
    else this.field.removeAttribute("aria-activedescendant");
  }

  key(event) {
    if (this.list.hidden) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") this.choose(this.chosen + (event.key === "ArrowDown" ? 1 : -1));
    else if (event.key === "Escape") this.close();
    else if ((event.key === "Enter" && this.chosen >= 0) || (event.key === "Tab" && this.chosen >= 0))
      this.take(this.list.children[this.chosen].dataset.name);
    else return;
    event.preventDefault();
  }

  take(name) {
    const caret = this.field.selectionStart, { start } = wordAt(this.field.value, caret);
    this.field.setRangeText(name, start, caret, "end");
    this.close();
    this.field.focus();
  }

  close() {
    this.asked++;
    this.list.hidden = true;
    this.field.setAttribute("aria-expanded", "false");
    this.choose(-1);
  }
}
