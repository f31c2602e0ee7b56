// The network in this browser: photo and names in, the line of an answer out. Runs wherever onnxruntime-web does.
import { fitted, padded, resized } from "./photo.js";
import { line } from "./rows.js";
import { Words } from "./words.js";

export class Detector {
  /** @param ort onnxruntime-web; @param session of model.onnx; @param about names.json; @param vectors (R x D) of its
   *  names; @param plurals, synonyms texts */
  constructor({ ort, session, about, vectors, plurals, synonyms }) {
    Object.assign(this, { ort, session, about, vectors });
    this.words = new Words({ names: about.names, vectors, plurals, synonyms });
  }

  /** @param photo {rgba, height, width, name}; -> as /v1/parse answers */
  async parse(photo, text) {
    const columns = this.words.read(text);
    const size = [photo.height, photo.width], small = fitted(...size, this.about.input);
    const { planes, canvas } = padded(resized(photo.rgba, size, small), small, this.about.input);
    const { Tensor } = this.ort;
    const out = await this.session.run({ image: new Tensor("float32", planes, [1, 3, ...canvas]), ...this.names(columns) });
    const arrays = Object.fromEntries(Object.entries(out).map(([name, tensor]) => [name, tensor.data]));
    const found = line({ ...arrays, small: out.masks.dims.slice(1) }, { canvas, resized: small, photo: size, box: this.about.input.mask_box }, columns, photo.name);
    const vocabulary = Object.fromEntries(
      columns.objects.map(({ name }, i) => [name, columns.parts.filter((part) => part.owner === i).map((part) => part.name)]),
    );
    return { ...found, vocabulary, notes: columns.notes };
  }

  /** Inputs of names. The graph wants two objects and two parts: an object comes twice then, of which the first is taken,
   *  and parts that no object has are never found. */
  names({ objects, parts }) {
    const { Tensor } = this.ort, width = this.about.width;
    const rows = objects.length > 1 ? objects.map((_, i) => i) : [0, 0];
    const columns = Math.max(2, parts.length);
    const objectNames = new Float32Array(rows.length * width), partNames = new Float32Array(columns * width);
    const vector = (row) => this.vectors.subarray(row * width, (row + 1) * width);
    rows.forEach((from, i) => objectNames.set(vector(objects[from].row), i * width));
    parts.forEach(({ row }, i) => partNames.set(vector(row), i * width));
    const allowed = new Uint8Array(rows.length * columns);
    parts.forEach(({ owner }, column) => rows.forEach((from, i) => from === owner && (allowed[i * columns + column] = 1)));
    return {
      object_names: new Tensor("float32", objectNames, [rows.length, width]),
      part_names: new Tensor("float32", partNames, [columns, width]),
      allowed: new Tensor("bool", allowed, [rows.length, columns]),
    };
  }
}
