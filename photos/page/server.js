// The one place through which all requests pass: the page's first line shows each that is refused.

import { plural, say, state } from "./state.js";

const JSON_TYPE = "application/json";
const ANNOTATIONS = /\.(json|txt|ya?ml|xml|csv)$/i;

export const uploading = { done: 0, planned: 0 };
let isLost = false; // the server

async function answerTo(path, type, body) {
  try {
    const answer = await fetch(path, type ? { method: "POST", headers: { "Content-Type": type }, body } : {});
    const kind = answer.headers.get("Content-Type") || "";
    if (kind === JSON_TYPE) return await answer.json();
    if (kind.startsWith("image/")) return {};
    return { error: `${answer.status} ${answer.statusText}: this is no answer of the page's server`, isLost: true };
  } catch {
    return { error: `The server does not answer. The work is kept in ${state.out}: start it again.`, isLost: true };
  }
}

export async function request(path, type, body) {
  const answer = await answerTo(path, type, body);
  if (answer.error) say(answer.error, "error");
  else if (isLost) say("The server answers again: this is what it has kept.");
  isLost = Boolean(answer.isLost);
  return answer;
}

export const post = (action, values) => request(action, JSON_TYPE, JSON.stringify(values));

async function sendAll(action, files, watch) {
  const refused = [];
  for (const [path, file] of files) {
    if (!uploading.planned) break; // stopped
    watch();
    const answer = await request(`${action}?name=${encodeURIComponent(path)}`, "application/octet-stream", file);
    if (answer.error) refused.push(answer.error);
    uploading.done += 1;
    if (answer.isLost) break;
  }
  return refused;
}

// Send photos and annotations, [path, file] each, and say what became of them; tells ``watch`` of each
export async function upload(given, areAnnotations, watch) {
  const files = given.filter(([, file]) => !file.name.startsWith("."));
  const annotations = files.filter(([path]) => areAnnotations || ANNOTATIONS.test(path));
  const photos = files.filter((one) => !annotations.includes(one));
  Object.assign(uploading, { done: 0, planned: files.length });
  const refused = await sendAll("upload", photos, watch);
  const notes = photos.length ? [`${plural(uploading.done - refused.length)} added`] : [];
  refused.push(...(await sendAll("upload_annotations", annotations, watch)));
  const imported = annotations.length && uploading.planned ? await post("annotations", {}) : {};
  if (imported.error) refused.push(imported.error);
  if (imported.note) notes.push(imported.note);
  if (refused.length > 3) refused.splice(3, refused.length, `and ${refused.length - 3} more`);
  uploading.planned = 0;
  say([...notes, ...refused].join("; "), refused.length ? "error" : "");
}

// The files in what was dropped, of folders too, as [path, file]
export async function filesIn(entries) {
  const found = [];
  for (const entry of entries) {
    if (entry.isFile) found.push([entry.fullPath.slice(1), await new Promise((done) => entry.file(done))]);
    const reader = entry.isDirectory && entry.createReader();
    for (let some; reader && (some = await new Promise((done) => reader.readEntries(done))).length; )
      found.push(...(await filesIn(some)));
  }
  return found;
}

// A picture that cannot be shown: why, by asking once more
export const explain = (event) => request(event.target.src);
