// The page: a grid of photos, and the open photo with its mask (mask.js). What a person does is a press, an object with its
// photo and class; presses are done one after the other, and those that wait are shown on their photo. The server keeps
// files alone; what follows from an action comes with the next look at its state, also from other windows.

import { Scene, colourOf, encode, ink, setColours } from "./mask.js";

const LOOK = 1000; // ms between two looks, or two tries to reach the server
const MOST = 100; // steps that can be taken back
const SEARCHING = "Searching all photos; masks marked old are of the search before ...";
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const element = (id) => document.getElementById(id), grid = element("grid"), canvas = document.querySelector("canvas");
const context = canvas.getContext("2d");
let state = { photos: [], classes: [], untrained: [], done: {}, seen: "" };
let rows = new Map(), tiles = new Map(), order = []; // of photos, by name; the names that the grid shows
let value = 1; // the class; 0: the chosen one was removed, elsewhere
let scene = new Scene(""); // the open photo
const scenes = new Map(); // by name: the open one, and those that a press waits for, or that are not saved
const queue = []; // presses that are not done; the first is under way
const done = [], undone = []; // steps: {photo, words, before, after} of a mask, {of, photos, words} of a list
let cross = null, drag = null; // drag: the press of the pointer while it is down
let uploading = null, packing = false; // packing: whether the zip that is made is for this window
let around = []; // the names that the grid showed with the open photo

// whether a class's mask is the network's from before the search that runs
const isOld = (row, known = value) => state.job?.[0] === "segmented" && (state.job[2]?.includes(row.name) ?? true) && row.classes[known]?.[0] === "network";
const isStroke = ({ kind }) => ["brush", "eraser"].includes(kind);
const isMarking = () => state.job?.[0] === "marked";
const nameOf = (known) => state.classes.find(([one]) => one === known)?.[1] ?? (known ? "object" : "no class");
const percent = (share) => (share > 0 && share < 0.01 ? "<\u00a01\u00a0%" : `${Math.round(100 * share)}\u00a0%`);
const extent = (share) => `${percent(share)} of the photo${share > state.most ? ", too much to learn from" : ""}`;
const firstOf = (lines) => [...lines.slice(0, 3), ...(lines.length > 3 ? [`and ${lines.length - 3} more`] : [])].join("; ");
const tool = () => document.querySelector("[name=tool]:checked").value;
const radius = () => (element("size").value / 1000) * Math.max(scene.width, scene.height);
const pressed = () => ({ scene, photo: scene.name, of: value, title: nameOf(value), list: order });

// Say that a photo is not there to be marked
const sayAway = ({ name }) => say(rows.get(name)?.error || (name ? `${name} is not shown yet; press again when it is` : "no photo is open; press one in the grid"), "error");

// whether a person sees the photo and its mask
const isShown = (one) => Boolean(one.label && one.picture.naturalWidth);

// Say why nothing can be marked now: no class is chosen, or the next one is not there yet; false if something can
function sayClassless() {
  const added = queue.find((press) => press.work === RUNS.add_class && press.of === value);
  if (value && !added) return false;
  say(added ? `the class ${added.name} is added; press again when it is chosen` : "choose a class first", "error");
  return true;
}

function made(tag, properties, ...children) {
  const out = Object.assign(document.createElement(tag), properties);
  out.append(...children);
  return out;
}

const remember = (step) => [done.push(step), done.splice(0, done.length - MOST), undone.splice(0)];
const say = (text, kind = "") => Object.assign(element("note"), { textContent: text, className: kind });

// Return the server's answer, however long it does not answer
async function request(path, body, type = "application/json") {
  const options = { headers: { "Content-Type": type, ...(state.folder && { "Page-Folder": state.folder }) }, ...(body !== undefined && { method: "POST", body }) };
  for (let isLost = false; ; isLost = true)
    try {
      const answer = await (await fetch(path, options)).json();
      if (isLost) say("The server answers again.");
      if (answer.error) say(answer.error, "error");
      return answer;
    } catch {
      Object.assign(state, { job: null, seen: "" });
      show();
      say(`The server does not answer; what you do waits for it: python predict.py serve --out ${state.out} --port ${location.port}`, "error");
      await new Promise((end) => setTimeout(end, LOOK));
    }
}

// Do a press after those before it
async function enqueue(press, at = queue.length) {
  queue.splice(at, 0, press);
  show();
  if (queue.length > 1) return;
  for (; queue.length; queue.shift())
    await Promise.resolve(queue[0]).then((one) => one.work(one)).catch((error) => say(`${error}`, "error"));
  for (const [name, one] of scenes) if (one !== scene && !one.isDrawn) scenes.delete(name);
  show();
}

async function act(action, values = {}) {
  const answer = await request(action, JSON.stringify(values));
  if (answer.note) say(answer.note);
  await look();
  return answer;
}

// Send a mask as it is, and say so; where the disk is full it stays, and the next look sends it. Whether it was refused
async function save(one, note) {
  const { name: photo, version, persons } = one, sent = one.said();
  const answer = await request("save", JSON.stringify({ photo, runs: encode(one.label), persons_values: [...persons], version }));
  one.isDrawn = Boolean(answer.error) && answer.kind !== "UserError";
  if (one.isDrawn) return false;
  const isLoaded = await load(one);
  const isKept = !answer.error || (isLoaded && one.said() === sent); // the server may have died after it kept it
  if (isKept) say(note);
  await look();
  return !isKept;
}

async function load(one) {
  const answer = await request(`mask?photo=${encodeURIComponent(one.name)}`);
  if (answer.error) return false;
  if (!one.label) {
    const src = `picture?photo=${encodeURIComponent(one.name)}&changed=${answer.version}`;
    one.picture = made("img", { onload: draw, onerror: () => setTimeout(() => scene === one && (one.picture.src = src), LOOK), src });
  }
  one.take(answer);
  show();
  return true;
}

function open(name) {
  if (drag) end();
  if (name === scene.name) return;
  scene = scenes.get(name) ?? new Scene(name);
  scenes.set(name, scene);
  cross = null;
  location.replace(`#${encodeURIComponent(name)}`);
  arrange();
  show();
  if (name && !scene.label) enqueue({ work: load.bind(null, scene) }, 1);
}

// Change the mask of a press in one step, and send it; not yet where the next press draws on it too
async function change({ scene: one, photo }, alter, wordsOf) {
  if (isMarking()) await load(one);
  const before = one.said();
  alter();
  one.isDrawn = true;
  const words = wordsOf();
  if (one.said() !== before) remember({ photo, words, before, after: one.said() });
  show();
  if (queue[1]?.scene !== one || !isStroke(queue[1])) await save(one, words);
}

function stroke(press) {
  const { scene: one, photo, of, title, kind } = press;
  return change(press, () => one.stroke(press), () => kind === "brush" ? `${title} on ${photo} is yours: ${extent(one.share(of))}` : `erased on ${photo}`);
}

async function ask(press) {
  const { scene: one, kind, photo, of, title, points } = press;
  say(`The network is looking for the ${title} on ${photo} ...`);
  const answer = await request("ask", JSON.stringify({ photo, points }));
  if (answer.error) return;
  const others = one.othersIn(answer.runs, of, kind === "click" ? points[0] : null);
  if (others) {
    const there = others.length ? `the mask of ${others.map(nameOf).join(" and ")} lies there, by you` : "the network found nothing there";
    return say(`Nothing of ${title} is added on ${photo}: ${there}.`, "error");
  }
  await change(press, () => one.add(answer.runs, of), () => `${title} is outlined on ${photo}: ${extent(one.share(of))}`);
}

// Accept, "nothing here" and "give back"
async function decide(kind, press) {
  const { scene: one, photo, of, title } = press, known = rows.get(photo)?.classes[of];
  if (!one.label) return sayAway(one);
  if (kind === "accept" && !one.share(of))
    return say(`${title}: ${known ? "nothing is marked" : "was not searched"} on ${photo}; press Nothing here, or Segment`, "error");
  if (kind === "back" && !one.persons.has(of)) return say(`${title} on ${photo} is not yours: nothing to give back`, "error");
  const outcome = { accept: `is yours now: ${extent(one.share(of))}`, empty: "is not there, by you", back: "is the network's again" }[kind];
  const sent = change(press, () => one.decide(kind, of), () => `${title} on ${photo} ${outcome}`);
  if (kind !== "back" && element("onward").checked && scene === one) go(1);
  await sent;
}

// Say of the class that nothing of it is on photos of the list, but where it is yours
async function sayAbsent({ of, title }, photos) {
  if (!photos.length) return say("The list shows no photo.", "error");
  const answer = await act("absent", { value: of, photos, absent: true });
  if (answer.photos?.length) remember({ of, photos: answer.photos, words: `nothing of ${title} on ${answer.photos.length} photos` });
}

// Take the last step back, or do it again; one that is refused stays the next
async function redo(from, to, was, becomes) {
  const step = from.at(-1), word = from === done ? "undo" : "redo";
  if (!step) return say(`nothing is left to ${word}`);
  if (isMarking()) await look();
  if (isMarking()) return say("wait until the work is done, or press Stop", "error");
  if (step.photos) {
    if ((await act("absent", { value: step.of, photos: step.photos, absent: word === "redo" })).error) return;
  } else {
    if (rows.has(step.photo)) open(step.photo);
    const one = scene, isThere = one.name === step.photo && (one.isDrawn || (await load(one)));
    if (!isThere || one.said() !== step[was]) {
      from.pop();
      return say(`${step.photo} was changed since, elsewhere, and is left as it is: ${step.words}`, "error");
    }
    one.restore(step[becomes]);
    one.isDrawn = true;
    if (await save(one, `${from === done ? "Taken back" : "Done again"}: ${step.words}`)) return;
  }
  to.push(from.pop());
}

// The canvas

const scaleOf = () => Math.min(canvas.width / scene.width, canvas.height / scene.height) * scene.view.zoom;
const within = (x, y) => [Math.min(Math.max(x, 0), scene.width), Math.min(Math.max(y, 0), scene.height)];

function place(event) {
  const sharp = canvas.width / canvas.clientWidth, scale = scaleOf(), view = scene.view;
  return within((event.offsetX * sharp - canvas.width / 2) / scale + view.x, (event.offsetY * sharp - canvas.height / 2) / scale + view.y);
}

function move(dx, dy) {
  const view = scene.view;
  const edge = (middle, side) => Math.min(Math.max(middle, side / 2 / view.zoom), side - side / 2 / view.zoom);
  [view.x, view.y] = [edge(view.x - dx, scene.width), edge(view.y - dy, scene.height)];
  draw();
}

function zoom(by, [x, y] = [scene.view.x, scene.view.y]) {
  if (!scene.label) return;
  const view = scene.view, before = view.zoom;
  view.zoom = Math.min(Math.max(before * by, 1), 16);
  move((view.x - x) * (1 - before / view.zoom), (view.y - y) * (1 - before / view.zoom));
}

function draw() {
  canvas.width = canvas.clientWidth * devicePixelRatio;
  canvas.height = canvas.clientHeight * devicePixelRatio;
  if (!scene.label || !canvas.width) return;
  const scale = scaleOf(), { x, y } = scene.view;
  const waiting = [...queue, drag].filter((press) => press?.points && press.scene === scene);
  const strokes = waiting.filter(isStroke), layer = strokes.length ? scene.copy() : null;
  for (const stroke of strokes) ink(layer, stroke);
  context.setTransform(scale, 0, 0, scale, canvas.width / 2 - x * scale, canvas.height / 2 - y * scale);
  if (scene.picture.naturalWidth) context.drawImage(scene.picture, 0, 0, scene.width, scene.height);
  context.globalAlpha = 0.5;
  context.imageSmoothingEnabled = false;
  context.drawImage(layer?.canvas ?? scene.layer, 0, 0);
  context.globalAlpha = 1;
  const outline = (colour, width, size, [from, to]) => {
    [context.strokeStyle, context.lineWidth] = [colour, width / scale];
    context.beginPath();
    if (to) context.rect(...from, to[0] - from[0], to[1] - from[1]);
    else context.arc(...from, size, 0, 2 * Math.PI);
    context.stroke();
  };
  for (const { of, points } of waiting.filter((press) => !isStroke(press)))
    for (const [colour, width] of [["#000", 6], [colourOf(of), 4]]) outline(colour, width, 6 / scale, points);
  for (const [colour, width] of [["#000", 3], ["#fff", 1.5]])
    if (cross) outline(colour, width, ["box", "click"].includes(tool()) ? 4 / scale : radius(), [cross]);
}

function begin(at, shift) {
  if (sayClassless()) return;
  const kind = tool() === "click" && shift ? "eraser" : tool(), points = kind === "box" ? [at, at] : [at];
  drag = { ...pressed(), kind, radius: radius(), points, work: isStroke({ kind }) ? stroke : ask };
  if (kind === "click") end();
}

const extend = (at) => drag && (drag.kind === "box" ? (drag.points[1] = at) : drag.points.push(at));

function end() {
  const press = drag, [from, last] = press.points;
  drag = null;
  if (press.kind === "box" && Math.min(Math.abs(from[0] - last[0]), Math.abs(from[1] - last[1])) < 1)
    say("The box is empty: drag it around the object.", "error");
  else enqueue(press);
}

const cancel = () => [(drag = null), draw()];

canvas.onpointerdown = (event) => {
  if (!isShown(scene)) return sayAway(scene);
  event.preventDefault();
  canvas.focus();
  canvas.setPointerCapture(event.pointerId);
  cross = place(event);
  if (event.button || drag) cancel(); // another button or finger moves the photo
  else begin(cross, event.shiftKey);
  draw();
};
canvas.onpointermove = (event) => {
  if (!scene.label) return;
  if (event.buttons > 1) {
    const scale = (scaleOf() * canvas.clientWidth) / canvas.width;
    return move(event.movementX / scale, event.movementY / scale);
  }
  for (const one of [...(event.getCoalescedEvents?.() ?? []), event]) extend((cross = place(one)));
  draw();
};
canvas.onpointerup = () => [drag && end(), draw()];
canvas.onpointercancel = cancel;
canvas.oncontextmenu = (event) => event.preventDefault();
canvas.onwheel = (event) => {
  event.preventDefault();
  if (scene.label) zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, place(event));
};

function drawByKey(event) {
  if (!isShown(scene)) return event.key === " " && Boolean(sayAway(scene));
  cross = cross || [scene.view.x, scene.view.y];
  if (event.key in MOVES) {
    const far = Math.max(scene.width, scene.height) / (event.shiftKey ? 200 : 50) / scene.view.zoom;
    extend((cross = within(...MOVES[event.key].map((way, i) => cross[i] + way * far))));
  } else if (event.key === "Escape") cancel();
  else if (event.key !== " " && event.key !== "Enter") return false;
  else if (drag) end();
  else begin(cross, event.shiftKey);
  draw();
  return true;
}

// The grid

function wordOf(row, known = value) {
  const [by, share] = row.classes[known] || [];
  if (row.error) return "not read";
  if (!by) return "not searched";
  if (by === "person") return share ? "by you" : `by you: no ${nameOf(known)} here`;
  return share ? "found" : "not found";
}

function countsOf(known) {
  const words = state.photos.map((row) => wordOf(row, known)), counts = ["by you", "found", "not found", "not searched", "not read"];
  const parts = counts.map((word) => [words.filter((one) => one.startsWith(word)).length, word]).filter(([count]) => count);
  return `${nameOf(known)}: ${parts.map((part) => part.join(" ")).join(", ")}`;
}

// Scores of the network: that the class is there, and that the mask fits, which says little of untrained classes
function scoresOf([by, , presence, score], known = value) {
  if (by !== "network") return [];
  return [["presence", presence], ["mask score", state.untrained.includes(known) ? null : score]].filter(([, of]) => of != null).map(([name, of]) => `${name} ${percent(of)}`);
}

function fill(row) {
  const tile = tiles.get(row.name), [picture, , facts] = tile.children, known = row.classes[value] || [];
  picture.src = `thumb?photo=${encodeURIComponent(row.name)}&changed=${row.version}`;
  facts.textContent = [...(isOld(row) ? ["old"] : []), wordOf(row), ...(known[1] ? [percent(known[1])] : []), ...scoresOf(known)].join(", ");
  tile.title = row.error || `${row.name}: ${facts.textContent}`;
  tile.classList.toggle("yours", wordOf(row).startsWith("by you"));
  tile.classList.toggle("missing", wordOf(row) === "not found");
  tile.classList.toggle("old", isOld(row));
}

function tileOf(name) {
  const picture = made("img", { loading: "lazy", alt: "", onerror: (event) => (event.target.alt = "cannot be read") });
  return made("button", { tabIndex: -1, onclick: () => say("") && open(name) }, picture, made("span", {}, name), made("span"));
}

function arrange() {
  const [column, way] = element("order").value.split(" ").map(Number), wanted = element("show").value;
  const isVain = column === 3 && state.untrained.includes(value);
  const scoreOf = ([by, , ...scores]) => (by === "network" && !isVain ? scores[column - 2] : null);
  const rank = (row) => way * (scoreOf(row.classes[value] || []) ?? 2 * way); // without a score: last
  const shown = state.photos.filter((row) => wanted === "all" || wordOf(row).startsWith(wanted));
  if (way) shown.sort((a, b) => rank(a) - rank(b));
  order = shown.map((row) => row.name);
  if (order.includes(scene.name)) around = order;
  const kept = order.map((name) => tiles.get(name)), focused = document.activeElement;
  if (kept.length !== grid.children.length || kept.some((tile, i) => tile !== grid.children[i])) grid.replaceChildren(...kept);
  if (grid.contains(focused)) focused.focus();
  element("filter").textContent = order.length ? "" : `No photo is shown: the list is of photos "${wanted}", of the class ${nameOf(value)}.`;
}

async function look() {
  for (const one of scenes.values()) if (one.isDrawn) await save(one, `${one.name} is saved`);
  const answer = await request(`state?seen=${state.seen}`);
  if (answer.error) return;
  if (answer.seen !== state.seen) {
    const before = state;
    state = answer;
    rows = new Map(state.photos.map((row) => [row.name, row]));
    tiles = new Map(state.photos.map((row) => [row.name, tiles.get(row.name) || tileOf(row.name)]));
    if (JSON.stringify(before.classes) !== JSON.stringify(state.classes)) showClasses(before.classes);
    if (!element("formats").firstChild) showFormats();
    if (state.done.number > before.done.number) finish(before.job?.[0] === "segmented");
    state.photos.forEach(fill);
    arrange();
    const wanted = decodeURIComponent(location.hash.slice(1)), first = state.photos[0]?.name ?? "", gone = scene.name;
    const isOwn = queue[0]?.work === RUNS.remove && queue[0].photo === gone;
    if (gone && !rows.has(gone)) open(isOwn ? first : "");
    else if (!gone && (rows.has(wanted) || !before.photos.length)) open(rows.has(wanted) ? wanted : first);
    if (gone && !scene.name) say(`${gone} was removed, in another window; open another photo`, "error");
  }
  const row = rows.get(scene.name);
  if (row && scene.label && row.version !== scene.version && !scene.isDrawn) await load(scene);
  show();
}

// Say what a piece of work has done, and hand over the zip
function finish(isSearch) {
  const foundOf = ([known, name]) => state.photos.some((row) => row.classes[known]) ? countsOf(known) : `${name}: annotate it on a photo first`;
  say([state.done.note, ...(isSearch ? state.classes.map(foundOf) : [])].join("; "));
  if (packing && state.archive) made("a", { href: "download", download: "predictions.zip" }).click();
  packing = false;
}

async function pack() {
  const formats = [...document.querySelectorAll("#formats :checked, #more :checked")].map((one) => one.value);
  packing = true;
  if ((await act("pack", { formats })).error) packing = false;
}

function showClasses(before) {
  const isGone = !state.classes.some(([known]) => known === value), was = before.find(([known]) => known === value);
  const isOwn = queue[0]?.work === RUNS.remove_class && queue[0].of === value;
  if (isGone) value = was && !isOwn ? 0 : state.classes[0][0];
  if (isGone && !value) say(`the class ${was[1]} was removed, in another window; choose a class`, "error");
  setColours(state.classes);
  const radio = (known) => made("input", { type: "radio", name: "class", value: known, checked: known === value });
  const chipOf = ([known, name]) => made("label", {}, radio(known), made("i", { style: `background: ${colourOf(known)}` }), name);
  element("classes").replaceChildren(...state.classes.map(chipOf));
  if (scene.label) scene.paint();
}

function showFormats() {
  const box = (kind) => made("input", { type: "checkbox", value: kind, checked: ["png", "coco"].includes(kind) });
  for (const kind of state.formats)
    element(["png", "coco", "yolo"].includes(kind) ? "formats" : "more").append(made("label", {}, box(kind), kind));
  element("weights").textContent = `${state.title}.`;
}

function show() {
  document.body.classList.toggle("none", !rows.size);
  for (const [name, tile] of tiles) {
    tile.setAttribute("aria-current", String(name === scene.name));
    tile.tabIndex = name === (order.includes(scene.name) ? scene.name : order[0]) ? 0 : -1;
  }
  element("count").textContent = `${rows.size} photos; ${countsOf(value)}`;
  for (const name of document.querySelectorAll("button b")) name.textContent = nameOf(value);
  document.querySelector("[data-do=onwards]").hidden = element("order").value !== "2 -1";
  document.querySelector("#order [value='3 1']").hidden = state.untrained.includes(value);
  const outlook = state.untrained.includes(value) ? `these weights were not trained on ${nameOf(value)}: many masks are wrong in part, look at each; ` : "";
  element("outlook").textContent = `${outlook}about 30 % of photos without the object get a mask`;
  element("outlook").hidden = !state.photos.some((row) => row.classes[value]?.[0] === "network");
  const opened = rows.get(scene.name);
  if (scene.label) {
    const facts = state.classes.map(([known, name]) => {
      const row = opened?.classes[known] || [], [by] = row, share = scene.share(known);
      const ofNetwork = opened && isOld(opened, known) ? "old, " : by ? "" : "not searched, ";
      const who = scene.persons.has(known) ? "by you, " : ofNetwork;
      return `${name}: ${who}${share ? `${percent(share)} of the photo` : "nothing"}${["", ...scoresOf(row, known)].join(", ")}`;
    });
    const isFirst = !state.photos.some((row) => Object.values(row.classes).some(([by]) => by === "person"));
    const hint = isFirst ? ". Paint over the object, then press Segment." : "";
    element("about").replaceChildren(made("b", {}, scene.name), `: ${opened?.error || facts.join("; ") + hint}`);
  } else element("about").textContent = scene.name && (opened?.error || `opening ${scene.name} ...`);
  const [verb, done, waits, left] = uploading || state.job || [], [bar, line] = element("job").children;
  const planned = waits && done + waits.length;
  element("job").hidden = !verb;
  [bar.max, bar.value] = [planned || 1, done || 0];
  const time = left > 90 ? `${Math.round(left / 60)} min` : `${Math.ceil(left)} s`;
  line.textContent = planned ? `${done} of ${planned} ${verb}${left ? `, ${time} left` : ""}` : "preparing";
  canvas.ariaBusy = String(queue.some((press) => press.of) || Boolean(scene.name && !scene.label));
  draw();
}

async function upload(files) {
  const refused = [], notes = [], before = rows.size;
  const photos = files.filter((file) => !file.name.startsWith(".") && (file.type.startsWith("image/") || /\.(avif|hei[cf]|jfif|tiff?)$/i.test(file.name)));
  uploading = ["uploaded", 0, photos];
  for (const file of photos) {
    if (!uploading) break;
    uploading = ["uploaded", uploading[1] + 1, uploading[2].slice(1)];
    show();
    const { error, note } = await request(`upload?name=${encodeURIComponent(file.name)}`, file, "application/octet-stream");
    if (error || note) (error ? refused : notes).push(error || note);
  }
  if (files.length > photos.length) notes.push(`${files.length - photos.length} files left out: no photos`);
  uploading = null;
  await enqueue({ work: look });
  const lines = [`${rows.size - before} of ${files.length} files added`, refused.length && `${refused.length} refused: ${firstOf(refused)}`, firstOf(notes)];
  say(lines.filter(Boolean).join("; "), refused.length ? "error" : "");
}

async function filesIn(entries) {
  const found = [];
  for (const entry of entries) {
    if (entry.isFile) found.push(await new Promise((done) => entry.file(done)));
    const reader = entry.isDirectory && entry.createReader();
    for (let some; reader && (some = await new Promise((done) => reader.readEntries(done))).length; ) found.push(...(await filesIn(some)));
  }
  return found;
}

// Go to the photo behind the open one, or before it; also where that has left the list, by a verdict
function go(by) {
  const list = around.filter((name) => name === scene.name || order.includes(name));
  const next = list[list.indexOf(scene.name) + by];
  if (!next) return say("the list ends here");
  tiles.get(next)?.scrollIntoView({ block: "nearest", inline: "nearest" });
  open(next);
}

// Add or rename a class; it is chosen then, if no other one was meanwhile
async function byName(action, { of, name }, values = {}) {
  if (!name) return say("type a class name first", "error");
  if ((await act(action, { ...values, name })).error) return;
  if (element("name").value.trim() === name) element("name").value = "";
  const known = state.classes.find(([, one]) => one === name);
  if (known && value === of) choose(known[0]);
}

function choose(known) {
  value = known;
  document.querySelector(`[name=class][value="${known}"]`).checked = true;
  state.photos.forEach(fill);
  arrange();
  show();
}

const AT_ONCE = ["pick", "larger", "smaller", "stop", "previous", "next"];
const OF_CLASS = ["accept", "empty", "back", "absent", "onwards", "rename_class", "remove_class"];
const HELD = ["larger", "smaller", "previous", "next", "undo", "redo"]; // what a key that is held does again
const RUNS = {
  pick: () => element("files").click(),
  larger: () => zoom(1.5),
  smaller: () => zoom(1 / 1.5),
  stop: () => (uploading ? (uploading = null) : request("stop", "{}")),
  previous: () => say("") && go(-1),
  next: () => say("") && go(1),
  samples: () => act("samples"),
  add_class: (press) => byName("add_class", press),
  rename_class: (press) => byName("rename_class", press, { value: press.of }),
  remove_class: ({ of, title }) => confirm(`Remove the class "${title}" and its masks on all photos?`) && act("remove_class", { value: of }),
  remove: ({ photo }) => confirm(`Remove ${photo} and its masks from this page? The photo's file stays.`) && act("remove", { photo }),
  undo: () => redo(done, undone, "after", "before"),
  redo: () => redo(undone, done, "before", "after"),
  accept: (press) => decide("accept", press),
  empty: (press) => decide("empty", press),
  back: (press) => decide("back", press),
  absent: (press) => sayAbsent(press, press.list),
  onwards: (press) => sayAbsent(press, press.list.includes(press.photo) ? press.list.slice(press.list.indexOf(press.photo)) : []),
  segment: ({ photo }) => act("segment", { photo }),
  pack,
};

// Do what a button or a key says: at once, or when the presses before it are done
function run(action) {
  if (AT_ONCE.includes(action)) return RUNS[action]();
  if (OF_CLASS.includes(action) && sayClassless()) return;
  say(action === "segment" ? SEARCHING : "");
  enqueue({ ...pressed(), name: element("name").value.trim(), work: RUNS[action] });
}

function wander(event) {
  const all = [...grid.children], wide = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -wide, ArrowDown: wide }[event.key];
  if (by) all[all.indexOf(event.target.closest("#grid button")) + by]?.focus();
  return Boolean(by);
}

function press(event) {
  const letter = event.key.toUpperCase().replace("=", "+"), isControl = event.ctrlKey || event.metaKey;
  const digit = element("classes").children[event.key - 1]?.control;
  const titled = [...document.querySelectorAll("[title]")].find((one) => one.title === letter && one.checkVisibility());
  const action = isControl ? { Z: "undo", Y: "redo" }[letter] : letter === "P" ? "previous" : titled?.dataset.do;
  if (event.altKey || !(action || (!isControl && (digit || titled)))) return false;
  if (event.repeat && !HELD.includes(action)) return true;
  if (action) run(action);
  else if (digit) choose(Number(digit.value));
  else titled.control.click(); // a label would take the focus
  return true;
}

document.onkeydown = (event) => {
  if (event.target.matches("select, input:not([type])")) return;
  if (event.repeat && [" ", "Enter"].includes(event.key)) return event.preventDefault();
  const taken = event.target === canvas ? drawByKey(event) : grid.contains(event.target) && wander(event);
  if (taken || press(event)) event.preventDefault();
};
document.onclick = ({ target }) => target.closest("[data-do]") && run(target.closest("[data-do]").dataset.do);
document.onsubmit = (event) => event.preventDefault();
document.onchange = ({ target }) => {
  if (target.name === "class") choose(Number(target.value));
  if (target.name === "tool") cancel();
  if (target.tagName === "SELECT") arrange();
  if (target.type === "file") {
    upload([...target.files]);
    target.value = ""; // the same files may be selected again
  }
  show();
};
document.ondragover = (event) => event.preventDefault() || document.body.classList.add("drop");
document.ondragleave = (event) => event.relatedTarget || document.body.classList.remove("drop"); // of the window
document.ondrop = async (event) => {
  event.preventDefault();
  document.body.classList.remove("drop");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  upload(await filesIn(entries));
};
element("size").oninput = window.onresize = draw;
window.onbeforeunload = (event) => {
  if (uploading || queue.some((press) => press.of) || [...scenes.values()].some((one) => one.isDrawn)) event.preventDefault();
};
enqueue({ work: look });
setInterval(() => document.hidden || queue.length || enqueue({ work: look }), LOOK);
