// Objects and their parts as a tree of the keyboard: arrows, Home, End; what is focused or under the pointer is lit.

export class Tree {
  /** @param onLight told of the row that is lit, or null */
  constructor(list, onLight) {
    this.list = list;
    this.onLight = onLight;
    list.addEventListener("keydown", (event) => this.key(event));
    list.addEventListener("focusin", (event) => this.light(event.target.row ?? null));
    list.addEventListener("focusout", (event) => list.contains(event.relatedTarget) || this.light(null));
    list.addEventListener("pointerover", (event) => this.light(event.target.closest("[role=treeitem]")?.row ?? null));
    list.addEventListener("pointerleave", () => this.light(list.contains(document.activeElement) ? document.activeElement.row : null));
  }

  /** Build it anew: shown objects, best first, with their shown parts. */
  set(rows) {
    const better = (a, b) => b.score - a.score;
    const shown = rows.filter((row) => row.shown);
    const objects = shown.filter((row) => row.level === "object").sort(better);
    this.list.replaceChildren(...objects.map((object) => {
      const parts = shown.filter((row) => row.parent_id === object.id).sort(better);
      const item = this.item(object, 1, parts.length > 0);
      if (parts.length) {
        const group = document.createElement("ul");
        group.setAttribute("role", "group");
        group.className = "parts";
        group.append(...parts.map((part) => this.item(part, 2, false)));
        item.append(group);
      }
      return item;
    }));
    const first = this.items()[0];
    if (first) first.tabIndex = 0;
  }

  item(row, level, open) {
    const item = document.createElement("li");
    item.setAttribute("role", "treeitem");
    item.setAttribute("aria-level", level);
    item.setAttribute("aria-label", `${row.name}, ${Math.round(row.score * 100)} percent`);
    if (open) item.setAttribute("aria-expanded", "true");
    item.className = row.level;
    item.tabIndex = -1;
    item.row = row;
    const line = document.createElement("div");
    line.className = "item";
    const swatch = span("swatch", "");
    swatch.style.background = row.css;
    const meter = span("meter", ""), svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.innerHTML = `<rect width="${Math.round(row.score * 100)}%" height="100%" fill="${row.css}"/>`;
    meter.append(svg);
    line.append(swatch, span("name", row.name), meter, span("score", `${Math.round(row.score * 100)}%`));
    item.append(line);
    row.line = line;
    return item;
  }

  items() {
    return [...this.list.querySelectorAll("[role=treeitem]")];
  }

  light(row) {
    this.list.querySelectorAll(".lit").forEach((line) => line.classList.remove("lit"));
    row?.line?.classList.add("lit");
    this.onLight(row);
  }

  key(event) {
    const items = this.items(), at = items.indexOf(document.activeElement);
    const current = items[at], up = current?.parentElement.closest("[role=treeitem]");
    const to = {
      ArrowDown: items[at + 1], ArrowUp: items[at - 1], Home: items[0], End: items.at(-1),
      ArrowRight: current?.querySelector("[role=treeitem]"), ArrowLeft: up,
    };
    if (!(event.key in to)) return;
    event.preventDefault();
    const next = to[event.key];
    if (!next) return;
    items.forEach((item) => (item.tabIndex = -1));
    next.tabIndex = 0;
    next.focus();
  }
}

function span(name, words) {
  const element = document.createElement("span");
  element.className = name;
  element.textContent = words;
  return element;
}
