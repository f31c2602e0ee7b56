// The model's own thread, so that the page stays awake.
import * as ort from "./ort/ort.wasm.min.mjs";
import { Detector } from "./detector.js";
import { Refused } from "./words.js";

const file = (name) => new URL(name, import.meta.url).href;
let detector = null;

onmessage = async ({ data: { number, photo, vocabulary } }) => {
  const say = (content) => postMessage({ number, ...content });
  try {
    detector ??= opened((words) => say({ words }));
    say({ words: "Looking …" });
    say({ answer: await (await detector).parse(photo, vocabulary) });
  } catch (error) {
    if (!(error instanceof Refused)) console.error(error);
    const told = error instanceof Refused ? error.message : `This browser could not run the model (${error.message ?? error}). Reload the page, or try another browser.`;
    say({ error: told });
  }
};

async function opened(tell) {
  ort.env.wasm.wasmPaths = file("ort/");
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency ?? 1) : 1;
  try {
    const [about, vectors, plurals, synonyms] = await Promise.all([
      fetched("names.json").then((answer) => answer.json()), fetched("names.bin").then((answer) => answer.arrayBuffer()),
      ...["plurals.txt", "synonyms.txt"].map((name) => fetched(name).then((answer) => answer.text())),
    ]);
    const graph = await loaded("model.onnx", tell);
    tell("Opening the model …");
    const session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"] });
    return new Detector({ ort, session, about, vectors: new Float32Array(vectors), plurals, synonyms });
  } catch (error) {
    detector = null; // the next photo tries again
    throw error;
  }
}

async function fetched(name) {
  const answer = await fetch(file(name));
  if (!answer.ok) throw new Error(`${name} is not there: ${answer.status}`);
  return answer;
}

/** The bytes of a file, told as they come. */
async function loaded(name, tell) {
  const answer = await fetched(name), all = Number(answer.headers.get("Content-Length")), pieces = [];
  let came = 0;
  for (const reader = answer.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    pieces.push(value);
    came += value.length;
    const share = all >= came ? ` ${Math.round((100 * came) / all)} %` : "";
    tell(`Loading the model, once:${share} of ${((all || came) / 2 ** 20).toFixed(0)} MiB`);
  }
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}
