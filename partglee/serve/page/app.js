// The page: photo and names in, objects and parts out.
import * as engine from "./engine.js";
import { Completion } from "./names.js";
import { colours, onWhite, Stage } from "./stage.js";
import { Tree } from "./tree.js";

const GALLERY = [
  ["officer.jpg", "An officer in uniform"],
  ["astronaut.jpg", "An astronaut in a space suit"],
  ["photographer.jpg", "A photographer in a coat"],
];
const PRESETS = {
  Faces: "person: hair, eye, nose, mouth, ear, neck",
  Clothes: "person: hat, jacket, coat, shirt, dress, trousers, shoe, glove",
  Cars: "car: wheel, door, window, headlight, mirror, bumper",
  Animals: "dog: head, leg, ear, tail; cat: head, leg, ear, tail; bird: beak, wing, tail",
};
const LOWEST = 0.05, LONGEST = 2048;
const at = (id) => document.getElementById(id);
const stage = new Stage(at("canvas"));
const tree = new Tree(at("tree"), (row) => stage.draw(row));
const state = { file: null, name: "", answer: null, limits: null, running: null, opened: 0 };

new Completion(at("names"), at("choices"), engine.complete);
at("names").value = PRESETS.Faces;
for (const [name, words] of GALLERY) at("gallery").append(picture(name, words));
for (const [title, names] of Object.entries(PRESETS)) at("presets").append(preset(title, names));

engine.info().then((info) => {
  state.limits = info.limits;
  at("threshold").value = Math.round(info.score_threshold * 100);
  at("model").textContent = info.model;
  at("model").hidden = !info.model;
  at("terms").textContent = info.remarks?.terms ? `Weights: ${info.remarks.terms}.` : "";
  percent();
}).catch(refuse);

// ---------------------------------------------------------------- photos in

at("file").addEventListener("change", () => at("file").files[0] && open(at("file").files[0]));
at("other").addEventListener("click", () => at("file").click());
addEventListener("paste", (event) => event.clipboardData.files[0] && open(event.clipboardData.files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    at("stage").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
}

function picture(name, words) {
  const button = document.createElement("button");
  button.type = "button";
  button.setAttribute("aria-pressed", "false");
  button.innerHTML = `<img src="gallery/${name}" alt="${words}">`;
  button.addEventListener("click", () => open(fetch(`gallery/${name}`).then((answer) => answer.blob()), name, button));
  return button;
}

/** A photo takes the place of the one before; of several that come quickly, the last. @param source a file, or a promise
 *  of one; @param chosen its button */
async function open(source, name = source.name, chosen = null) {
  const opened = ++state.opened;
  state.running?.abort();
  state.running = state.file = null;
  clear();
  busy(false);
  for (const button of at("gallery").children) button.setAttribute("aria-pressed", String(button === chosen));
  let file = null;
  try {
    file = await source;
    const photo = await createImageBitmap(file, { imageOrientation: "from-image" });
    const [sent, shown] = await smaller(file, photo);
    if (opened !== state.opened) return;
    [state.file, state.shown] = [sent, shown];
    stage.show(state.shown);
    at("canvas").hidden = false;
    at("canvas").setAttribute("aria-label", name);
    at("stage").classList.remove("empty");
    at("other").hidden = false;
  } catch {
    if (opened !== state.opened) return;
    chosen?.setAttribute("aria-pressed", "false");
    at("canvas").hidden = true;
    at("stage").classList.add("empty");
    at("other").hidden = true;
    if (!file) return refuse(new Error(`${name} could not be fetched. Is the connection there? Try again.`));
    const most = state.limits?.upload_bytes ?? Infinity;
    if (file.size > most) return refuse(new Error(`This file has ${(file.size / 1e6).toFixed(0)} MB and is no photo that this browser can read. Choose a JPEG or PNG.`));
    return refuse(new Error(`${name} is not an image that this browser can read. Choose a JPEG, PNG or WebP photo.`));
  } finally {
    at("file").value = "";
  }
  state.name = name;
  await find();
}

/** Photos of phones are made smaller before they travel: the model looks at a few hundred pixels. */
async function smaller(file, photo) {
  const scale = Math.min(1, LONGEST / Math.max(photo.width, photo.height));
  if (scale === 1 && file.size < (state.limits?.upload_bytes ?? Infinity) - 10000) return [file, photo];
  const [width, height] = [photo.width, photo.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = new OffscreenCanvas(width, height);
  onWhite(canvas.getContext("2d"), photo);
  return [await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 }), canvas];
}

// ---------------------------------------------------------------- names in

function preset(title, names) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = title;
  button.addEventListener("click", () => {
    at("names").value = names;
    if (state.file) find();
  });
  return button;
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (state.file) find();
  else refuse(new Error("There is no photo yet. Drop one, or take one of those below the frame."));
});
at("names").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("form").requestSubmit();
});

async function find() {
  state.running?.abort();
  const running = (state.running = new AbortController());
  clear();
  busy(true);
  try {
    const asked = { file: state.file, shown: state.shown, name: state.name, vocabulary: at("names").value, threshold: LOWEST };
    const answer = await engine.parse({ ...asked, signal: running.signal, tell: (words) => (at("status").textContent = words) });
    if (running !== state.running) return;
    state.answer = answer;
    colours(answer.results);
    filter();
    stage.set(answer.results, answer.height, answer.width);
    at("notes").hidden = !answer.notes.length;
    at("notes").textContent = answer.notes.join(". ");
    at("found").hidden = false;
  } catch (error) {
    if (running === state.running && error.name !== "AbortError") refuse(error);
  } finally {
    if (running === state.running) busy(false);
  }
}

// ---------------------------------------------------------------- answers out

at("threshold").addEventListener("input", () => {
  percent();
  filter();
  stage.draw(null);
});

function percent() {
  at("percent").textContent = `${at("threshold").value} %`;
}

/** What is sure enough; a part goes with its object. */
function filter() {
  const rows = state.answer?.results ?? [], least = at("threshold").value / 100;
  const objects = new Set(rows.filter((row) => row.level === "object" && row.score >= least).map((row) => row.id));
  for (const row of rows) row.shown = row.score >= least && (row.level === "object" ? objects.has(row.id) : objects.has(row.parent_id));
  tree.set(rows);
  const shown = rows.filter((row) => row.shown), parts = shown.filter((row) => row.level === "part").length;
  at("none").hidden = shown.length > 0;
  if (state.answer) at("status").textContent = `${many(shown.length - parts, "object")}, ${many(parts, "part")}`;
}

const many = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

at("canvas").addEventListener("pointermove", (event) => tree.light(under(event)));
at("canvas").addEventListener("pointerdown", (event) => tree.light(under(event)));
at("canvas").addEventListener("pointerleave", (event) => event.pointerType === "mouse" && tree.light(null));

function under(event) {
  const { canvas } = stage, frame = canvas.getBoundingClientRect();
  const [x, y] = [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
  return stage.at(x * canvas.width, y * canvas.height);
}

at("json").addEventListener("click", () => {
  const keys = ["id", "parent_id", "level", "name", "label", "image_id", "category_id", "bbox", "score", "segmentation"];
  const results = stage.visible().map((row) => Object.fromEntries(keys.filter((key) => key in row).map((key) => [key, row[key]])));
  save(new Blob([JSON.stringify({ ...state.answer, results })], { type: "application/json" }), "json");
});
at("png").addEventListener("click", () => {
  stage.draw(null);
  stage.canvas.toBlob((blob) => save(blob, "png"), "image/png");
});

function save(blob, ending) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${state.name.replace(/\.[^.]*$/, "") || "photo"}-parts.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function busy(on) {
  at("bar").hidden = !on;
  at("find").disabled = on;
  at("stage").setAttribute("aria-busy", String(on));
  if (on) at("status").textContent = "Looking …";
  else if (!state.answer) at("status").textContent = "";
}

function clear() {
  state.answer = null;
  at("error").hidden = at("found").hidden = at("notes").hidden = true;
  stage.rows = [];
  stage.draw(null);
}

function refuse(error) {
  at("error").hidden = false;
  at("error").replaceChildren();
  const title = document.createElement("strong");
  title.textContent = "That did not work";
  const words = error.message.charAt(0).toUpperCase() + error.message.slice(1);
  at("error").append(title, /[.!?]$/.test(words) ? words : `${words}.`);
}
