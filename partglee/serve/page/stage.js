// The photo with what was found, on a canvas. Fills and outlines are made once for each row, in the size of the photo.
import { decode } from "./masks.js";

const OBJECTS = [[15, 118, 110], [196, 106, 27], [76, 92, 184], [172, 52, 92], [96, 128, 32], [128, 72, 160]];
const PARTS = [
  [242, 180, 64], [86, 164, 226], [236, 112, 99], [120, 198, 121], [190, 134, 214], [255, 213, 128], [64, 190, 185],
  [240, 150, 190], [160, 186, 70], [140, 150, 235], [222, 146, 88], [110, 205, 240],
];

/** A colour for each name: equal names look alike, objects and parts never. */
export function colours(rows) {
  const of = new Map(), seen = { object: 0, part: 0 };
  for (const row of rows) {
    const key = row.level + row.name;
    const palette = row.level === "object" ? OBJECTS : PARTS;
    if (!of.has(key)) of.set(key, palette[seen[row.level]++ % palette.length]);
    row.colour = of.get(key);
    row.css = `rgb(${row.colour.join(" ")})`;
  }
}

/** A photo over a whole canvas; what is transparent is white, as the model sees it. */
export function onWhite(context, photo) {
  const { width, height } = context.canvas;
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(photo, 0, 0, width, height);
}

export class Stage {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.rows = [];
    this.lit = null;
  }

  /** @param photo an ImageBitmap or a canvas */
  show(photo) {
    this.photo = photo;
    this.rows = [];
    this.lit = null;
    this.canvas.width = photo.width;
    this.canvas.height = photo.height;
    this.draw();
  }

  /** Rows of an answer; their pixels are those of an image of that size. */
  set(rows, height, width) {
    this.rows = rows;
    const scale = [this.photo.width / width, this.photo.height / height];
    for (const row of rows) {
      row.box = row.bbox.map((value, side) => value * scale[side % 2]);
      if (row.segmentation) [row.fill, row.edge] = layers(row, height, width);
    }
    this.draw();
  }

  visible() {
    return this.rows.filter((row) => row.shown);
  }

  /** What lies at a point of the photo, the smallest first. */
  at(x, y) {
    const hits = this.visible().filter((row) => {
      if (!row.mask) return x >= row.box[0] && y >= row.box[1] && x <= row.box[0] + row.box[2] && y <= row.box[1] + row.box[3];
      const [height, width] = row.segmentation.size;
      const column = Math.floor((x * width) / this.photo.width), line = Math.floor((y * height) / this.photo.height);
      return row.mask[line * width + column] === 1;
    });
    return hits.sort((a, b) => a.area - b.area)[0] ?? null;
  }

  draw(lit = this.lit) {
    const { context: c, canvas } = this;
    if (!this.photo) return;
    this.lit = lit;
    c.globalAlpha = 1;
    onWhite(c, this.photo);
    const rows = this.visible().sort((a, b) => (a.level < b.level ? -1 : a.level > b.level ? 1 : b.area - a.area));
    if (lit) {
      c.fillStyle = "rgb(12 16 18 / 62%)";
      c.fillRect(0, 0, canvas.width, canvas.height);
      this.cut(lit);
      this.paint(lit, 0.34, 1);
      for (const part of rows.filter((row) => row.parent_id === lit.id)) this.paint(part, 0.2, 0.9);
      this.label(lit);
      return;
    }
    for (const row of rows) this.paint(row, row.level === "object" ? 0.16 : 0.46, 1);
    const taken = [];
    for (const row of rows.filter((one) => one.level === "object")) this.label(row, taken);
  }

  /** The photo itself under a mask, over what has been darkened. */
  cut(row) {
    if (!row.fill) return;
    const hole = new OffscreenCanvas(this.canvas.width, this.canvas.height), h = hole.getContext("2d");
    h.drawImage(row.fill, 0, 0, hole.width, hole.height);
    h.globalCompositeOperation = "source-in";
    h.drawImage(this.photo, 0, 0);
    this.context.drawImage(hole, 0, 0);
  }

  paint(row, fill, edge) {
    const { context: c, canvas } = this;
    if (row.fill) {
      c.globalAlpha = fill;
      c.drawImage(row.fill, 0, 0, canvas.width, canvas.height);
      c.globalAlpha = edge;
      c.drawImage(row.edge, 0, 0, canvas.width, canvas.height);
      c.globalAlpha = 1;
    } else {
      c.strokeStyle = row.css;
      c.lineWidth = Math.max(2, canvas.width / 300);
      c.strokeRect(...row.box);
    }
  }

  label(row, taken = []) {
    const { context: c, canvas } = this;
    const size = Math.max(13, Math.round(Math.max(canvas.width, canvas.height) / 42)), pad = size * 0.42;
    c.font = `600 ${size}px system-ui, "Noto Sans", "DejaVu Sans", sans-serif`;
    const words = `${row.name} ${Math.round(row.score * 100)}%`;
    const wide = c.measureText(words).width + 2 * pad, high = size + 2 * pad;
    const x = Math.min(Math.max(row.box[0], 6), Math.max(6, canvas.width - wide - 6));
    let y = Math.min(Math.max(row.box[1] - high / 2, 6), canvas.height - high - 6);
    while (taken.some((o) => x < o[0] + o[2] && o[0] < x + wide && y < o[1] + high && o[1] < y + high)) y += high + 2;
    taken.push([x, y, wide]);
    c.fillStyle = row.css;
    c.beginPath();
    c.roundRect(x, y, wide, high, high / 3);
    c.fill();
    const [r, g, b] = row.colour;
    c.fillStyle = 0.3 * r + 0.59 * g + 0.11 * b > 140 ? "#1b1d1f" : "#fff";
    c.textBaseline = "middle";
    c.fillText(words, x + pad, y + high / 2 + 1);
  }
}

/** Two layers of a mask: its pixels, and its outline; `row.mask` and `row.area` beside. */
function layers(row, height, width) {
  const mask = (row.mask = decode(row.segmentation));
  const fill = new ImageData(width, height), edge = new ImageData(width, height);
  const [red, green, blue] = row.colour, thick = Math.max(1, Math.round(Math.max(width, height) / 420));
  let area = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * width + x;
      if (!mask[at]) continue;
      area++;
      fill.data.set([red, green, blue, 255], 4 * at);
      const inside = x >= thick && y >= thick && x < width - thick && y < height - thick && mask[at - thick] &&
        mask[at + thick] && mask[at - thick * width] && mask[at + thick * width];
      if (!inside) edge.data.set([red, green, blue, 255], 4 * at);
    }
  }
  row.area = area;
  return [fill, edge].map((data) => {
    const layer = new OffscreenCanvas(width, height);
    layer.getContext("2d").putImageData(data, 0, 0);
    return layer;
  });
}
