// The model in this browser, behind the functions that the page asks of a server. Nothing leaves this computer.
import { onWhite } from "./stage.js";
import { plain, Refused } from "./words.js";

export { Refused };

const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
const about = fetch("names.json").then((answer) => {
  if (!answer.ok) throw new Refused(`names.json is not there (${answer.status}); build the page again.`);
  return answer.json();
});
const waiting = new Map(); // number of a question -> who waits for its answer
let asked = 0, last = Promise.resolve();

worker.onmessage = ({ data: { number, words, answer, error } }) => {
  const one = waiting.get(number);
  if (words) return one?.tell(words);
  waiting.delete(number);
  if (error) one?.reject(new Refused(error));
  else one?.resolve(answer);
};
worker.onerror = (event) => {
  for (const one of waiting.values()) one.reject(new Refused(`The model did not start (${event.message ?? "its script failed to load"}). Reload the page.`));
  waiting.clear();
};

/** What /v1/info says. */
export async function info() {
  return (await about).info;
}

/** Known names that begin with a word, then those with a word that does, then those that contain it. */
export async function complete(prefix, of) {
  const { objects } = await about, wanted = plain(prefix), ranked = [];
  const owner = of && Object.keys(objects).find((name) => plain(name) === plain(of));
  (of ? (objects[owner] ?? []) : Object.keys(objects)).forEach((name, place) => {
    const key = plain(name), at = key.indexOf(wanted);
    if (at >= 0) ranked.push([at === 0 ? 0 : key[at - 1] === " " ? 1 : 2, place, name]);
  });
  return ranked.sort((a, b) => a[0] - b[0] || a[1] - b[1]).slice(0, 12).map(([, , name]) => name);
}

/** The answer for a photo: one after the other, and none that nobody waits for any more. */
export async function parse({ file, name, vocabulary, signal, tell }) {
  const before = last;
  let over;
  last = new Promise((resolve) => (over = resolve));
  try {
    await before;
    signal.throwIfAborted();
    const photo = await pixels(file, name);
    const answer = new Promise((resolve, reject) => waiting.set(++asked, { resolve, reject, tell: (words) => signal.aborted || tell(words) }));
    worker.postMessage({ number: asked, photo, vocabulary }, [photo.rgba.buffer]);
    const found = await answer;
    signal.throwIfAborted();
    return found;
  } finally {
    over();
  }
}

async function pixels(file, name) {
  const photo = await createImageBitmap(file, { imageOrientation: "from-image" });
  const canvas = new OffscreenCanvas(photo.width, photo.height), context = canvas.getContext("2d", { willReadFrequently: true });
  onWhite(context, photo);
  return { rgba: context.getImageData(0, 0, photo.width, photo.height).data, height: photo.height, width: photo.width, name };
}
