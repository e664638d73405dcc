// The one place through which all requests pass: the page's first line shows each that is refused.

import { say, state } from "./state.js";

let isLost = false; // the server

async function answerTo(path, type, body) {
  try {
    const answer = await fetch(path, type ? { method: "POST", headers: { "Content-Type": type }, body } : {});
    return await answer.json();
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

export const post = (action, values) => request(action, "application/json", JSON.stringify(values));

export async function upload(files) {
  const refused = [];
  let added = 0;
  for (const file of files) {
    const answer = await request(`upload?name=${encodeURIComponent(file.name)}`, "application/octet-stream", file);
    if (answer.error) refused.push(answer.error);
    else added += 1;
    if (answer.isLost) break;
  }
  const more = refused.length > 3 ? [`and ${refused.length - 3} more`] : [];
  const note = `${added} photo${added === 1 ? "" : "s"} added`;
  say([note, ...refused.slice(0, 3), ...more].join("; "), refused.length ? "error" : "");
}

// A picture that cannot be shown: why, by asking once more
export const explain = (event) => request(event.target.src);
