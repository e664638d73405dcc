// The one place through which all requests pass: the page's first line shows each that is refused.

import { say, state } from "./state.js";

const JSON_TYPE = "application/json";

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

export async function upload(files) {
  const refused = [];
  let added = 0;
  for (const file of files) {
    const answer = await request(`upload?name=${encodeURIComponent(file.name)}`, "application/octet-stream", file);
    if (answer.error) refused.push(answer.error);
    else added += 1;
    if (answer.isLost) break;
  }
  const others = refused.length > 3 ? [`and ${refused.length - 3} more`] : [];
  const note = `${added} photo${added === 1 ? "" : "s"} added`;
  say([note, ...refused.slice(0, 3), ...others].join("; "), refused.length ? "error" : "");
}

// A picture that cannot be shown: why, by asking once more
export const explain = (event) => request(event.target.src);
