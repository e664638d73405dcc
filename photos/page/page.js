// The page: a grid of photos, and the open photo with its mask (mask.js). The server keeps files alone; what follows
// from an action comes with the next look at its state, also from other windows.

import * as masks from "./mask.js";
import { layer, mask } from "./mask.js";

const LOOK = 1000; // ms between two looks
const SEARCHING = "Searching all photos; masks marked old are of the search before ...";
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const element = (id) => document.getElementById(id), grid = element("grid"), canvas = document.querySelector("canvas");
const context = canvas.getContext("2d");
let state = { photos: [], classes: [], done: { number: 0 }, seen: "" };
let rows = new Map(), tiles = new Map(), order = []; // of photos, by name; the names that the grid shows
let value = 1; // the class
let turn = Promise.resolve(), waiting = 0; // steps are done one after the other, as they came
let isDrawn = false, openings = 0; // whether the mask was changed since it was sent; photos that are to open
let view = { zoom: 1, x: 0, y: 0 }, cross = null, drag = null; // drag: {from, last, tool} while a pointer is down
let uploading = null, asked = 0, packing = false; // packing: whether the zip that is made is for this window
// the names that the grid showed with the open photo; of which photos and class "nothing" was said together
let around = [], absent = null;

// whether a class's mask is the network's from before the search that runs
const isOld = (row, known = value) => state.job?.[0] === "segmented" && (state.job[2]?.includes(row.name) ?? true) && row.classes[known]?.[0] === "network";
const className = () => state.classes.find(([known]) => known === value)?.[1] ?? "object";
const percent = (share) => (share > 0 && share < 0.01 ? "<\u00a01\u00a0%" : `${Math.round(100 * share)}\u00a0%`);
const extent = (known) => `${percent(masks.share(known))} of the photo${masks.share(known) > state.most ? ", too much to learn from" : ""}`;
const tool = () => document.querySelector("[name=tool]:checked").value;
const radius = () => (element("size").value / 1000) * Math.max(mask.width, mask.height);

function made(tag, properties, ...children) {
  const out = Object.assign(document.createElement(tag), properties);
  out.append(...children);
  return out;
}

const say = (text, kind = "") => Object.assign(element("note"), { textContent: text, className: kind });

async function request(path, body, type = "application/json") {
  try {
    const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": type }, body };
    const answer = await (await fetch(path, options)).json();
    if (answer.error) say(answer.error, "error");
    return answer;
  } catch {
    const error = `The server does not answer. The work is kept in ${state.out}: python predict.py serve --out ${state.out}`;
    state.job = null;
    say(error, "error");
    return { error, isLost: true };
  }
}

// Do a step after those before it; work in it is awaited, and asks for no turn of its own
function inTurn(work) {
  waiting += 1;
  turn = turn.then(work).catch((error) => say(`${error}`, "error")).finally(() => (waiting -= 1));
  return turn;
}

async function act(action, values = {}) {
  const answer = await request(action, JSON.stringify(values));
  if (answer.note) say(answer.note);
  await look();
  return answer;
}

// The mask: send it as it is now, if it has changed, then say so
async function save(note = "") {
  while (isDrawn) {
    isDrawn = false;
    const { name, version, persons } = mask, runs = masks.encode(mask.label);
    const answer = await request("save", JSON.stringify({ photo: name, runs, persons_values: [...persons], version }));
    isDrawn ||= Boolean(answer.isLost); // then it is sent when the server answers again
    if (answer.error) return answer.isLost || load(name);
    mask.version = answer.version; // what was drawn meanwhile is sent on it
  }
  say(note);
  await load(mask.name);
  await look();
}

function changed(note = "") {
  [isDrawn, absent] = [true, null];
  show();
  return save(note);
}

async function load(name) {
  const scene = await request(`mask?photo=${encodeURIComponent(name)}`);
  if (!scene.error && mask.name === name && !isDrawn && !drag) masks.take(scene);
  show();
}

// Do a step that opens a photo; until it is done nothing is drawn
async function inOpening(work) {
  openings += 1;
  show();
  await inTurn(work);
  openings -= 1;
  show();
}

function open(name) {
  if (name !== mask.name || openings) inOpening(() => change(name));
}

async function change(name) {
  if (drag && masks.finish()) isDrawn = true;
  drag = null;
  if (isDrawn) await save();
  masks.close();
  [mask.name, cross, isDrawn] = [name, null, false];
  show();
  if (name) await load(name);
  if (!mask.label) return;
  view = { zoom: 1, x: mask.width / 2, y: mask.height / 2 };
  const picture = new Image();
  picture.onload = () => {
    if (mask.name === name) mask.picture = picture;
    draw();
  };
  picture.src = `picture?photo=${encodeURIComponent(name)}&changed=${rows.get(name)?.version}`;
  location.replace(`#${encodeURIComponent(name)}`);
  arrange();
}

async function ask(points, of) {
  const name = mask.name, title = className();
  asked += 1;
  say(`The network is looking for the ${title} ...`);
  show();
  const answer = await request("ask", JSON.stringify({ photo: name, points }));
  asked -= 1;
  if (answer.error) return show();
  masks.change("add", of, answer.runs);
  await changed(`${title} is outlined on ${name}: ${extent(of)}`);
}

// Accept, "nothing here" and "give back": of the class that is selected, on the open photo
function decide(kind) {
  if (!mask.label) return;
  const [name, photo, share] = [className(), mask.name, masks.share(value)];
  const known = rows.get(photo)?.classes[value];
  if (kind === "accept" && !share)
    return say(`${name}: ${known ? "nothing is marked" : "was not searched"} on ${photo}; press Nothing here, or Segment`, "error");
  if (kind === "back" && !mask.persons.has(value)) return say(`${name} on ${photo} is not yours: nothing to give back`, "error");
  masks.change(kind, value);
  const moves = kind !== "back" && element("onward").checked;
  const lines = {
    accept: `${name} on ${photo} is yours now: ${extent(value)}`,
    empty: `${photo}: nothing of ${name} is there, by you`,
    back: `${name} on ${photo} is the network's again`,
  };
  return changed(lines[kind]).then(() => moves && step(1));
}

// Say of the class that nothing of it is on all photos that the grid shows, but where it is yours; or take that back
async function sayAbsent(isAbsent, of = value, photos = order) {
  const answer = await act("absent", { value: of, photos, absent: isAbsent });
  absent = isAbsent && answer.photos ? { of, photos: answer.photos } : null;
}

// The canvas

const scaleOf = () => Math.min(canvas.width / mask.width, canvas.height / mask.height) * view.zoom;

function place(event) {
  const sharp = canvas.width / canvas.clientWidth, scale = scaleOf();
  const x = (event.offsetX * sharp - canvas.width / 2) / scale + view.x;
  const y = (event.offsetY * sharp - canvas.height / 2) / scale + view.y;
  return [Math.min(Math.max(x, 0), mask.width), Math.min(Math.max(y, 0), mask.height)];
}

function move(dx, dy) {
  const edge = (middle, side) => Math.min(Math.max(middle, side / 2 / view.zoom), side - side / 2 / view.zoom);
  [view.x, view.y] = [edge(view.x - dx, mask.width), edge(view.y - dy, mask.height)];
  draw();
}

function zoom(by, [x, y] = [view.x, view.y]) {
  if (!mask.label) return;
  const before = view.zoom;
  view.zoom = Math.min(Math.max(before * by, 1), 16);
  move((view.x - x) * (1 - before / view.zoom), (view.y - y) * (1 - before / view.zoom));
}

function draw() {
  canvas.width = canvas.clientWidth * devicePixelRatio;
  canvas.height = canvas.clientHeight * devicePixelRatio;
  if (!mask.label || !canvas.width) return;
  const scale = scaleOf();
  context.setTransform(scale, 0, 0, scale, canvas.width / 2 - view.x * scale, canvas.height / 2 - view.y * scale);
  if (mask.picture) context.drawImage(mask.picture, 0, 0, mask.width, mask.height);
  context.globalAlpha = 0.5;
  context.imageSmoothingEnabled = false;
  context.drawImage(layer, 0, 0);
  context.globalAlpha = 1;
  for (const [colour, width] of [["#000", 3], ["#fff", 1.5]]) {
    [context.strokeStyle, context.lineWidth] = [colour, width / scale];
    context.beginPath();
    if (drag?.tool === "box") context.rect(...drag.from, drag.last[0] - drag.from[0], drag.last[1] - drag.from[1]);
    else if (cross) context.arc(...cross, ["box", "click"].includes(tool()) ? 4 / scale : radius(), 0, 2 * Math.PI);
    context.stroke();
  }
}

const stroke = (from, to) => masks.line(from, to, radius(), drag.tool === "eraser" ? 0 : value);

function begin(at, shift) {
  if (openings) return;
  const kind = tool() === "click" && shift ? "eraser" : tool(), of = value;
  if (kind === "click") {
    inTurn(() => ask([at], of));
    return;
  }
  drag = { from: at, last: at, tool: kind };
  if (kind !== "box") stroke(at, at);
}

function extend(at) {
  if (!drag) return;
  if (drag.tool !== "box") stroke(drag.last, at);
  drag.last = at;
}

function end() {
  const { from, last, tool: kind } = drag, of = value;
  drag = null;
  if (kind !== "box") {
    const note = `${className()} on ${mask.name} is yours: ${extent(of)}`;
    isDrawn = masks.finish() || isDrawn;
    if (isDrawn) inTurn(() => changed(kind === "brush" ? note : ""));
  } else if (Math.min(Math.abs(from[0] - last[0]), Math.abs(from[1] - last[1])) < 1)
    say("The box is empty: drag it around the object.", "error");
  else inTurn(() => ask([from, last], of));
}

function cancel() {
  drag = null;
  if (mask.label) masks.cancel();
  draw();
}

canvas.onpointerdown = (event) => {
  if (!mask.label) return;
  event.preventDefault();
  canvas.focus();
  canvas.setPointerCapture(event.pointerId);
  cross = place(event);
  if (event.button || drag) cancel(); // another button or finger moves the photo
  else begin(cross, event.shiftKey);
  draw();
};
canvas.onpointermove = (event) => {
  if (!mask.label) return;
  if (event.buttons > 1) {
    const scale = (scaleOf() * canvas.clientWidth) / canvas.width;
    return move(event.movementX / scale, event.movementY / scale);
  }
  for (const one of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) {
    cross = place(one);
    extend(cross);
  }
  draw();
};
canvas.onpointerup = () => [drag && end(), draw()];
canvas.onpointercancel = cancel;
canvas.oncontextmenu = (event) => event.preventDefault();
canvas.onwheel = (event) => {
  event.preventDefault();
  if (mask.label) zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, place(event));
};

function drawByKey(event) {
  if (!mask.label) return false;
  cross = cross || [view.x, view.y];
  if (event.key in MOVES) {
    const far = Math.max(mask.width, mask.height) / (event.shiftKey ? 200 : 50) / view.zoom;
    const [x, y] = MOVES[event.key].map((way, i) => cross[i] + way * far);
    cross = [Math.min(Math.max(x, 0), mask.width), Math.min(Math.max(y, 0), mask.height)];
    extend(cross);
  } else if (event.key === "Escape") cancel();
  else if (event.key !== " " && event.key !== "Enter") return false;
  else if (drag) end();
  else begin(cross, event.shiftKey);
  draw();
  return true;
}

// The grid

function wordOf(row) {
  const known = row.classes[value];
  if (row.error) return "not read";
  if (!known) return "not searched";
  if (known[0] === "person") return known[1] ? "by you" : "by you: nothing here";
  return known[1] ? "found" : "not found";
}

function scoresOf([by, , presence, score]) { // of the network: that the class is there, that the mask fits
  if (by !== "network") return [];
  return [["presence", presence], ["mask score", score]].filter(([, of]) => of != null).map(([name, of]) => `${name} ${percent(of)}`);
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
  const scoreOf = ([by, , ...scores]) => (by === "network" ? scores[column - 2] : null);
  const rank = (row) => way * (scoreOf(row.classes[value] || []) ?? 2 * way); // without a score: last
  const shown = state.photos.filter((row) => wanted === "all" || wordOf(row).startsWith(wanted));
  if (way) shown.sort((a, b) => rank(a) - rank(b));
  order = shown.map((row) => row.name);
  if (order.includes(mask.name)) around = order;
  const kept = order.map((name) => tiles.get(name)), focused = document.activeElement;
  if (kept.length !== grid.children.length || kept.some((tile, i) => tile !== grid.children[i])) grid.replaceChildren(...kept);
  if (grid.contains(focused)) focused.focus();
}

async function look() {
  const answer = await request(`state?seen=${state.seen}`);
  if (answer.error) return;
  if (answer.seen !== state.seen) {
    const before = state;
    state = answer;
    rows = new Map(state.photos.map((row) => [row.name, row]));
    tiles = new Map(state.photos.map((row) => [row.name, tiles.get(row.name) || tileOf(row.name)]));
    if (JSON.stringify(before.classes) !== JSON.stringify(state.classes)) showClasses();
    if (!element("formats").firstChild) showFormats();
    if (before.seen && state.done.number !== before.done.number) finish();
    state.photos.forEach(fill);
    arrange();
    const wanted = decodeURIComponent(location.hash.slice(1));
    if (!rows.has(mask.name) && !openings) open(rows.has(wanted) ? wanted : (state.photos[0]?.name ?? ""));
  }
  const row = rows.get(mask.name);
  if (isDrawn && !drag) await save();
  else if (row && mask.label && row.version !== mask.version && !isDrawn && !drag) await load(mask.name);
  show();
}

// Say what a piece of work has done, and hand over the zip
function finish() {
  say(state.done.note);
  if (packing && state.archive) made("a", { href: "download", download: "predictions.zip" }).click();
  packing = false;
}

async function pack() {
  const formats = [...document.querySelectorAll("#formats :checked, #more :checked")].map((one) => one.value);
  packing = true;
  const answer = await act("pack", { formats });
  if (answer.error) packing = false;
}

function showClasses() {
  if (!state.classes.some(([known]) => known === value)) value = state.classes[0][0];
  const chips = state.classes.map(([known, name, colour]) => {
    const chip = made("label", {}, made("input", { type: "radio", name: "class", value: known, checked: known === value }));
    chip.append(made("i", { style: `background: rgb(${colour})` }), name);
    return chip;
  });
  element("classes").replaceChildren(...chips);
  masks.setColours(state.classes);
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
    tile.setAttribute("aria-current", String(name === mask.name));
    tile.tabIndex = name === (order.includes(mask.name) ? mask.name : order[0]) ? 0 : -1;
  }
  const words = state.photos.map(wordOf), counts = ["by you", "found", "not found", "not searched", "not read"];
  const parts = counts.map((word) => [word, words.filter((one) => one.startsWith(word)).length]).filter(([, count]) => count);
  element("count").textContent = `${rows.size} photos; ${className()}: ${parts.map(([word, count]) => `${count} ${word}`).join(", ")}`;
  for (const [kind, word] of [["accept", "Accept"], ["empty", "Nothing here:"], ["back", "Give back"], ["absent", "Nothing in the list:"]])
    document.querySelector(`[data-do=${kind}]`).textContent = `${word} ${className()}`;
  element("outlook").textContent = [state.outlooks[value], "about 30 % of photos without the object get a mask"].filter(Boolean).join("; ");
  element("outlook").hidden = !state.photos.some((row) => row.classes[value]?.[0] === "network");
  const opened = rows.get(mask.name);
  if (mask.label) {
    const facts = state.classes.map(([known, name]) => {
      const row = opened?.classes[known] || [], [by] = row, share = masks.share(known);
      const ofNetwork = opened && isOld(opened, known) ? "old, " : by ? "" : "not searched, ";
      const who = mask.persons.has(known) ? "by you, " : ofNetwork;
      return `${name}: ${who}${share ? `${percent(share)} of the photo` : "nothing"}${["", ...scoresOf(row)].join(", ")}`;
    });
    const isFirst = !state.photos.some((row) => Object.values(row.classes).some(([by]) => by === "person"));
    const hint = isFirst ? ". Paint over the object, then press Segment." : "";
    element("about").replaceChildren(made("b", {}, mask.name), `: ${opened?.error || facts.join("; ") + hint}`);
  } else element("about").textContent = mask.name && (opened?.error || `opening ${mask.name} ...`);
  const [verb, done, waits, left] = uploading || state.job || [], [bar, line] = element("job").children;
  const planned = waits && done + waits.length;
  element("job").hidden = !verb;
  [bar.max, bar.value] = [planned || 1, done || 0];
  const time = left > 90 ? `${Math.round(left / 60)} min` : `${Math.ceil(left)} s`;
  line.textContent = planned ? `${done} of ${planned} ${verb}${left ? `, ${time} left` : ""}` : "preparing";
  canvas.ariaBusy = String(asked > 0 || openings > 0 || Boolean(mask.name && !mask.label));
  draw();
}

// Photos that are sent

async function upload(files) {
  const lines = [];
  const before = rows.size;
  const photos = files.filter((file) => !file.name.startsWith(".") && (file.type.startsWith("image/") || /\.(avif|hei[cf]|jfif|tiff?)$/i.test(file.name)));
  uploading = ["uploaded", 0, photos];
  for (const file of photos) {
    if (!uploading) break;
    uploading = ["uploaded", uploading[1] + 1, uploading[2].slice(1)];
    show();
    const answer = await request(`upload?name=${encodeURIComponent(file.name)}`, file, "application/octet-stream");
    if (answer.error || answer.note) lines.push(answer.error || answer.note);
  }
  const others = files.length - photos.length;
  if (others) lines.push(`${others} files left out: no photos`);
  uploading = null;
  await inTurn(look);
  say([`${rows.size - before} of ${files.length} files added`, ...lines.slice(0, 3)].join("; "), lines.length ? "error" : "");
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

// Keys and buttons

// Go to the photo behind the open one, or before it; also where that has left the list, by a verdict
function step(by) {
  const list = around.filter((name) => name === mask.name || order.includes(name));
  const next = list[list.indexOf(mask.name) + by];
  tiles.get(next)?.scrollIntoView({ block: "nearest", inline: "nearest" });
  return next ? change(next) : say("the list ends here");
}

async function byName(action, values = {}) {
  const name = element("name").value.trim();
  if (!name) return say("type a class name first", "error");
  const answer = await act(action, { ...values, name });
  if (answer.error) return;
  element("name").value = "";
  const known = state.classes.find(([, one]) => one === name);
  if (known) selectClass(known[0]);
}

function selectClass(known) {
  value = known;
  showClasses();
  state.photos.forEach(fill);
  arrange();
  show();
}

const RUNS = {
  pick: () => element("files").click(),
  samples: () => act("samples"),
  add_class: () => byName("add_class"),
  rename_class: () => byName("rename_class", { value }),
  remove_class: () => confirm(`Remove the class "${className()}" and its masks on all photos?`) && act("remove_class", { value }),
  remove: () => confirm(`Remove ${mask.name} and its masks from this page? The photo's file stays.`) && act("remove", { photo: mask.name }),
  undo: () => absent ? sayAbsent(false, absent.of, absent.photos) : masks.undo() ? changed() : say("nothing is left to undo on this photo"),
  redo: () => masks.redo() ? changed() : say("nothing is left to redo on this photo"),
  larger: () => zoom(1.5),
  smaller: () => zoom(1 / 1.5),
  previous: () => step(-1),
  next: () => step(1),
  accept: () => decide("accept"),
  empty: () => decide("empty"),
  back: () => decide("back"),
  absent: () => sayAbsent(true),
  segment: () => say(SEARCHING) && act("segment", { photo: mask.name }),
  stop: () => (uploading ? (uploading = null) : act("stop")),
  pack,
};

// Do what a button or a key says, when what came before is done
function run(action) {
  if (["pick", "larger", "smaller", "stop"].includes(action)) return RUNS[action]();
  const opens = ["next", "previous"].includes(action);
  if (opens) say(`opening the ${action} photo ...`);
  if (action === "segment") say(SEARCHING);
  return (opens ? inOpening : inTurn)(() => say("") && RUNS[action]());
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
  if (action) run(action);
  else inTurn(() => (digit ? selectClass(Number(digit.value)) : titled.control.click())); // a label would take the focus
  return true;
}

document.onkeydown = (event) => {
  if (event.target.matches("select, input:not([type])")) return;
  const taken = event.target === canvas ? drawByKey(event) : grid.contains(event.target) && wander(event);
  if (taken || press(event)) event.preventDefault();
};
document.onclick = ({ target }) => target.closest("[data-do]") && run(target.closest("[data-do]").dataset.do);
document.onsubmit = (event) => event.preventDefault();
document.onchange = ({ target }) => {
  if (target.name === "class") inTurn(() => selectClass(Number(target.value)));
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
inTurn(look);
setInterval(() => document.hidden || waiting || inTurn(look), LOOK);
