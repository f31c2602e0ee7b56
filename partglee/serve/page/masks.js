// COCO run lengths: columns from top to bottom, background first, as text of 6-bit groups.

/** Run lengths of a text. */
export function counts(text) {
  const runs = [];
  for (let place = 0; place < text.length;) {
    let value = 0, shift = 0, more = true;
    while (more) {
      const group = text.charCodeAt(place++) - 48;
      value |= (group & 31) << shift;
      more = (group & 32) !== 0;
      shift += 5;
      if (!more && group & 16) value |= -1 << shift;
    }
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

/** The text of run lengths. */
export function text(runs) {
  let out = "";
  runs.forEach((run, i) => {
    let value = i > 2 ? run - runs[i - 2] : run;
    for (let more = true; more;) {
      let group = value & 31;
      value >>= 5;
      more = group & 16 ? value !== -1 : value !== 0;
      if (more) group |= 32;
      out += String.fromCharCode(group + 48);
    }
  });
  return out;
}

/** {size: [H, W], counts} -> Uint8Array of H * W, row by row. */
export function decode({ size: [height, width], counts: coded }) {
  const mask = new Uint8Array(height * width);
  let at = 0, on = 0;
  for (const run of counts(coded)) {
    if (on) for (let i = at; i < at + run; i++) mask[(i % height) * width + ((i / height) | 0)] = 1;
    at += run;
    on ^= 1;
  }
  return mask;
}

/** Uint8Array of H * W, row by row -> {size: [H, W], counts}. */
export function encode(mask, height, width) {
  const runs = [];
  let run = 0, on = 0;
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) {
      if (mask[y * width + x] !== on) {
        runs.push(run);
        run = 0;
        on ^= 1;
      }
      run++;
    }
  }
  runs.push(run);
  return { size: [height, width], counts: text(runs) };
}
