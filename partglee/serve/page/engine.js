// The server that has sent this page. A static build puts another file in its place, with the same functions.

export class Refused extends Error {}

/** What /v1/info says. */
export async function info() {
  return json(await fetch("v1/info"));
}

/** Known names that complete a word. */
export async function complete(prefix, of) {
  const asked = new URLSearchParams({ prefix, limit: 12, ...(of ? { object: of } : {}) });
  return (await json(await fetch(`v1/vocabulary?${asked}`))).names;
}

/** The answer for a photo: a line as `Prediction.to_json` writes it, with vocabulary and notes.
 *  @param file a Blob; @param threshold the lowest score that is wanted */
export async function parse({ file, name, vocabulary, threshold, signal }) {
  const form = new FormData();
  form.append("image", file, name);
  form.append("vocabulary", vocabulary);
  form.append("score_threshold", threshold);
  let answer;
  try {
    answer = await fetch("v1/parse", { method: "POST", body: form, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer. Is it still running? Try again in a moment.");
  }
  return json(answer);
}

async function json(answer) {
  const content = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refused(content?.error?.message ?? `The server answered ${answer.status}; try again.`);
  return content;
}
