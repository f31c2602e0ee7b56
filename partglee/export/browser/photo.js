// Photos as the network sees them: (H, W) pixels of a photo, (h, w) of the network's input before it is padded.

const BITS = 22; // of the weights of a resized pixel: with 8 bits of a pixel and a sign they fit into 32

/** (h, w) of a photo: the short side as wanted, unless the long one would pass its limit. */
export function fitted(height, width, { short_side, max_side }) {
  const scale = Math.min(short_side / Math.min(height, width), max_side / Math.max(height, width));
  return [height, width].map((side) => Math.max(1, Math.floor(side * scale + 0.5)));
}

/** RGBA of a canvas, H x W -> RGB, h x w: the triangle filter of Pillow (`Image.Resampling.BILINEAR`), to the last bit. */
export function resized(rgba, [height, width], [rows, columns]) {
  let rgb = new Uint8Array(height * width * 3);
  for (let i = 0, j = 0; j < rgb.length; i += 4, j += 3) for (let c = 0; c < 3; c++) rgb[j + c] = rgba[i + c];
  if (columns !== width) rgb = pass(rgb, taps(width, columns), { lines: height, from: [width * 3, 3], to: [columns * 3, 3] });
  if (rows !== height) rgb = pass(rgb, taps(height, rows), { lines: columns, from: [3, columns * 3], to: [3, columns * 3] });
  return rgb;
}

/** For each of `count` places what it takes from `size` ones: its first, and whole weights that sum to 2 ** BITS. */
function taps(size, count) {
  const scale = size / count, reach = Math.max(1, scale);
  return Array.from({ length: count }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5)), last = Math.min(size, Math.trunc(centre + reach + 0.5));
    const raw = Array.from({ length: last - first }, (_, k) => Math.max(0, 1 - Math.abs((first + k + 0.5 - centre) / reach)));
    const sum = raw.reduce((a, b) => a + b, 0);
    return { first, weights: raw.map((value) => Math.floor((value / sum) * 2 ** BITS + 0.5)) };
  });
}

/** One direction. @param from, to steps of a line and of a place on it */
function pass(pixels, places, { lines, from, to }) {
  const out = new Uint8Array(lines * places.length * 3), half = 2 ** (BITS - 1);
  for (let line = 0; line < lines; line++) {
    for (let i = 0; i < places.length; i++) {
      const { first, weights } = places[i], target = line * to[0] + i * to[1];
      let [r, g, b] = [half, half, half], at = line * from[0] + first * from[1];
      for (const weight of weights) {
        r += pixels[at] * weight;
        g += pixels[at + 1] * weight;
        b += pixels[at + 2] * weight;
        at += from[1];
      }
      out[target] = r >> BITS;
      out[target + 1] = g >> BITS;
      out[target + 2] = b >> BITS;
    }
  }
  return out;
}

/** RGB, h x w -> float planes on a canvas whose sides are multiples of `divisibility`; the rest has the mean colour.
 *  -> {planes, canvas: [H, W]} */
export function padded(rgb, [rows, columns], { divisibility, pixel_mean }) {
  const canvas = [rows, columns].map((side) => Math.ceil(side / divisibility) * divisibility);
  const planes = new Float32Array(3 * canvas[0] * canvas[1]);
  for (let c = 0; c < 3; c++) {
    const plane = planes.subarray(c * canvas[0] * canvas[1], (c + 1) * canvas[0] * canvas[1]).fill(pixel_mean[c]);
    for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++) plane[y * canvas[1] + x] = rgb[(y * columns + x) * 3 + c];
  }
  return { planes, canvas };
}
