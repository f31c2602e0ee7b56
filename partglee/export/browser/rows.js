// Outputs of the graph to the line that `Prediction.to_json` writes.
import { encode } from "./masks.js";

/** @param out arrays by name: boxes, scores, labels, level, parent, masks (N x h x w logits, `small` = [h, w])
 *  @param frame {canvas, resized, photo}: [H, W] of the padded input, of the photo on it, of the photo
 *  @param box masks end at so many times their box; null = they lie anywhere
 *  @param columns {objects, parts} that `Words.read` gave */
export function line(out, { canvas, resized, photo, box }, { objects, parts }, name) {
  const [height, width] = photo, across = width / resized[1], down = height / resized[0], [h, w] = out.small;
  const vertical = way(h, canvas[0], resized[0], height), horizontal = way(w, canvas[1], resized[1], width);
  const results = Array.from(out.scores, (score, i) => {
    const level = Number(out.level[i]), label = Number(out.labels[i]), parent = Number(out.parent[i]);
    const [x0, y0, x1, y1] = [0, 1, 2, 3].map((side) =>
      side % 2 ? Math.min(out.boxes[i * 4 + side] * down, height) : Math.min(out.boxes[i * 4 + side] * across, width));
    const mask = enlarged(out.masks.subarray(i * h * w, (i + 1) * h * w), [h, w], vertical, horizontal);
    return {
      id: i + 1,
      parent_id: parent < 0 ? null : parent + 1,
      level: level ? "part" : "object",
      name: (level ? parts : objects)[label].name,
      label,
      image_id: name,
      category_id: level ? objects.length + label : label,
      bbox: [x0, y0, x1 - x0, y1 - y0],
      score,
      segmentation: encode(ended(mask, [height, width], box ? [reach(y0, y1, box, height), reach(x0, x1, box, width)] : null), height, width),
    };
  });
  return { file_name: name, height, width, results };
}

/** Where a mask begins and ends along one side: `size` times its box around the centre, and a pixel more on each end. */
function reach(first, last, size, limit) {
  const centre = (first + last) / 2, half = (size * (last - first)) / 2 + 1;
  return [centre - half, centre + half].map((at) => Math.min(Math.max(even(at), 0), limit));
}

/** Rounded as torch does, halves to the even number. */
const even = (value) => (Math.abs(value % 1) === 0.5 ? 2 * Math.round(value / 2) : Math.round(value));

/** The mask, which is overwritten: 0 outside of [[top, bottom], [left, right]]; null = as it is. */
export function ended(mask, [height, width], window) {
  if (!window) return mask;
  const [[top, bottom], [left, right]] = window;
  mask.fill(0, 0, top * width);
  for (let y = top; y < bottom; y++) mask.fill(0, y * width, y * width + left).fill(0, y * width + right, (y + 1) * width);
  return mask.fill(0, Math.max(top, bottom) * width, height * width);
}

/** Bilinear to the canvas, the padding cut off, bilinear to the photo: for each place of a side what it takes of the
 *  small map. Both steps in one, as neighbours of neighbours are neighbours. */
export function way(small, canvas, cut, full) {
  const first = bilinear(small, canvas), second = cut === full ? null : bilinear(cut, full);
  return Array.from({ length: full }, (_, i) => {
    const taken = new Map();
    for (const [middle, share] of second ? second(i) : [[i, 1]])
      for (const [place, weight] of first(middle)) taken.set(place, (taken.get(place) ?? 0) + share * weight);
    return [...taken];
  });
}

const bilinear = (size, count) => (i) => {
  const at = Math.max(0, ((i + 0.5) * size) / count - 0.5), low = Math.min(Math.floor(at), size - 1);
  const high = Math.min(low + 1, size - 1), share = at - low;
  return high === low ? [[low, 1]] : [[low, 1 - share], [high, share]];
};

/** h x w logits -> H x W mask, row by row: 1 where the enlarged logit is above 0. */
export function enlarged(logits, [h, w], vertical, horizontal) {
  const width = horizontal.length, mask = new Uint8Array(vertical.length * width), mixed = new Float64Array(w);
  const most = Array.from({ length: h }, (_, y) => logits.subarray(y * w, (y + 1) * w).reduce((a, b) => Math.max(a, b), -Infinity));
  vertical.forEach((rows, y) => {
    if (rows.every(([place]) => most[place] <= 0)) return; // nothing between what is nowhere above 0
    mixed.fill(0);
    for (const [place, share] of rows) for (let x = 0, at = place * w; x < w; x++, at++) mixed[x] += share * logits[at];
    for (let x = 0, at = y * width; x < width; x++, at++) {
      let value = 0;
      for (const [place, share] of horizontal[x]) value += share * mixed[place];
      if (value > 0) mask[at] = 1;
    }
  });
  return mask;
}
