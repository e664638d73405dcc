// The one place through which all requests pass: the page's first line shows each that is refused.

import { plural, say, state } from "./state.js";

const JSON_TYPE = "application/json";
const ANNOTATIONS = /\.(json|txt|ya?ml|xml|csv)$/i;
const OF_MASKS = /(^|\/)(masks?|segmentationclass(aug)?|groundtruth|gt|ann(otation)?s?|labels?)\/[^/]*$/i; // folders
const OF_RESULT = /(review\/)?([^/]*)_(mask|overlay|probability_[^/]*)\.\w+$/; // pictures beside a result's JSON
const NO_TYPE = /\.(avif|hei[cf]|jfif|tiff?)$/i; // of photos that some browsers do not know

export const uploading = { done: 0, planned: 0 };
let turn = Promise.resolve(); // of the last upload
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

// The photos, annotations and other files among some, [path, file] each
function sorted(given, areAnnotations) {
  const paths = new Set(given.map(([path]) => path)), kinds = { photos: [], annotations: [], others: [] };
  for (const one of given) {
    const [path, file] = one, isInFolder = path.includes("/");
    const isPhoto = file.type.startsWith("image/") || NO_TYPE.test(path) || !isInFolder;
    const isOfResult = OF_RESULT.test(path) && paths.has(path.replace(OF_RESULT, "$2.json"));
    const isMask = OF_MASKS.test(path) || (isOfResult && /_mask\.png$/.test(path));
    if (areAnnotations || ANNOTATIONS.test(path) || isMask) kinds.annotations.push(one);
    else if (isPhoto && !isOfResult) kinds.photos.push(one);
    else kinds.others.push(one);
  }
  return kinds;
}

// Send files to an address, one after the other; tells ``watch`` of each
async function sendAll(action, files, watch) {
  const answers = [];
  for (const [path, file] of files) {
    if (!uploading.planned) break; // stopped
    uploading.done += 1;
    watch();
    answers.push(await request(`${action}name=${encodeURIComponent(path)}`, "application/octet-stream", file));
    if (answers.at(-1).isLost) break;
  }
  return answers;
}

const few = (names) => (names.length > 1 ? `${names.length} files, such as ${names[0]},` : names[0]);

// A line on photos that were sent, of which some are open already and others have a new name
function lineOn(photos, answers) {
  const same = photos.filter((_, i) => answers[i]?.added === false).map(([, file]) => file.name);
  const lines = [`${plural(answers.filter((answer) => answer.added).length)} added`];
  if (same.length) lines.push(`${few(same)} ${same.length > 1 ? "are" : "is"} open already`);
  photos.forEach(([, file], i) => {
    const { added, photo } = answers[i] || {};
    if (added && photo !== file.name) lines.push(`${file.name} is ${photo} here: another photo has its name`);
  });
  return lines;
}

async function sendPhotosAndAnnotations(given, areAnnotations, watch) {
  const files = given.filter(([path]) => !/(^|\/)\./.test(path)); // none that is hidden
  const { photos, annotations, others } = sorted(files, areAnnotations);
  const planned = photos.length + annotations.length;
  Object.assign(uploading, { done: 0, planned });
  const answers = await sendAll("upload?", photos, watch);
  const lines = photos.length ? lineOn(photos, answers) : [];
  const isRenamed = answers.some(({ added, photo }, i) => added && photo !== photos[i][1].name);
  const sent = isRenamed ? [] : await sendAll(`upload_annotations?drop=${Date.now()}&`, annotations, watch);
  const refused = [...answers, ...sent].filter((answer) => answer.error).map((answer) => answer.error);
  if (isRenamed && annotations.length) refused.push("annotations are left out: other photos have these names here");
  if (sent.length && uploading.planned) {
    const imported = await post("annotations", {});
    if (imported.error) refused.push(`no annotation was imported: ${imported.error}`);
    else lines.push(imported.note);
  }
  if (others.length) lines.push(`${few(others.map(([path]) => path))} left out: no photo, no annotation`);
  if (!uploading.planned) lines.push(`stopped, ${planned - uploading.done} not sent`);
  if (refused.length > 3) refused.splice(3, refused.length, `and ${refused.length - 3} more`);
  uploading.planned = 0;
  say([...lines, ...refused].join("; "), refused.length ? "error" : "");
}

// Send photos and annotations, [path, file] each, after those that are being sent, and say what became of them
export function upload(given, areAnnotations, watch) {
  turn = turn.then(() => sendPhotosAndAnnotations(given, areAnnotations, watch));
  return turn;
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
