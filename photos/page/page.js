// The page: a grid of photos, and the open photo with its mask (mask.js). The server keeps files alone; what follows
// from an action comes with the next look at its state, also from other windows.

import * as masks from "./mask.js";
import { layer, mask } from "./mask.js";

const LOOK = 1000; // ms between two looks
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const element = (id) => document.getElementById(id), grid = element("grid"), canvas = document.querySelector("canvas");
const context = canvas.getContext("2d");
let state = { photos: [], classes: [], done: { number: 0 }, seen: "" };
let rows = new Map(), tiles = new Map(), order = []; // of photos, by name; the names that the grid shows
let value = 1; // the class
let turn = Promise.resolve(), edits = 0, saved = 0; // actions are sent one after the other; changes of masks
let view = { zoom: 1, x: 0, y: 0 }, cross = null, drag = null; // drag: {from, last, tool} while a pointer is down
let uploading = null, asked = 0;

const className = () => state.classes.find(([known]) => known === value)?.[1] ?? "object";
const percent = (share) => (share > 0 && share < 0.01 ? "< 1 %" : `${Math.round(100 * share)} %`);
const tool = () => document.querySelector("[name=tool]:checked").value;
const radius = () => (element("size").value / 1000) * Math.max(mask.width, mask.height);

function made(tag, properties, ...children) {
  const out = Object.assign(document.createElement(tag), properties);
  out.append(...children);
  return out;
}

function say(text, kind = "") {
  [element("note").textContent, element("note").className] = [text, kind];
}

async function request(path, body, type = "application/json") {
  try {
    const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": type }, body };
    const answer = await (await fetch(path, options)).json();
    if (answer.error) say(answer.error, "error");
    return answer;
  } catch {
    const error = `The server does not answer. The work is kept in ${state.out}: start it again.`;
    say(error, "error");
    return { error };
  }
}

function inTurn(work) {
  turn = turn.then(work, work);
  return turn;
}

const act = (action, values = {}) => inTurn(async () => {
  const answer = await request(action, JSON.stringify(values));
  if (answer.note) say(answer.note);
  await look();
  return answer;
});

// The mask

// Send the mask as it is now; a later change sends it once more
function save(note = "") {
  edits += 1;
  const [name, number] = [mask.name, edits];
  if (note) say(note);
  show();
  return inTurn(async () => {
    if (name !== mask.name || number !== edits) return; // a later change is sent
    const { version } = mask, runs = masks.encode(mask.label);
    const answer = await request("save", JSON.stringify({ photo: name, runs, persons_values: [...mask.persons], version }));
    saved = number;
    if (answer.note) say(answer.note);
    if (name === mask.name && answer.version) mask.version = answer.version; // what was drawn meanwhile is sent on it
    if (name === mask.name && number === edits) await load(name);
    await look();
  });
}

// Wait until what was drawn is kept, then do the work
const afterSaving = (work) => inTurn(async () => {}).then(work);

async function load(name) {
  const before = edits, scene = await request(`mask?photo=${encodeURIComponent(name)}`);
  if (!scene.error && mask.name === name && before === edits && !drag) masks.take(scene);
  show();
}

async function open(name) {
  if (name === mask.name) return;
  await afterSaving(() => {});
  masks.close();
  [mask.name, drag, cross] = [name, null, null];
  show();
  if (!name) return;
  await load(name);
  if (mask.name !== name || !mask.label) return;
  view = { zoom: 1, x: mask.width / 2, y: mask.height / 2 };
  const picture = new Image();
  picture.onload = () => {
    if (mask.name === name) mask.picture = picture;
    draw();
  };
  picture.src = `picture?photo=${encodeURIComponent(name)}&changed=${rows.get(name)?.version}`;
  location.replace(`#${encodeURIComponent(name)}`);
  show();
}

async function ask(points) {
  const [name, of] = [mask.name, value];
  asked += 1;
  say(`The network is looking for the ${className()} ...`);
  show();
  await inTurn(async () => {
    const answer = await request("ask", JSON.stringify({ photo: name, points }));
    asked -= 1;
    if (answer.error || name !== mask.name) return;
    masks.change("add", of, answer.runs);
    save(`${className()} is outlined on ${name}`);
  });
  show();
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
  const lines = {
    accept: `${name} on ${photo} is yours now: ${percent(share)} of the photo`,
    empty: `${photo}: nothing of ${name} is there, by you`,
    back: `${name} on ${photo} is the network's again`,
  };
  save(lines[kind]);
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
  context.globalAlpha = Number(element("opacity").value);
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
  const kind = tool() === "click" && shift ? "eraser" : tool();
  if (kind === "click") return ask([at]);
  drag = { from: at, last: at, tool: kind };
  if (kind !== "box") stroke(at, at);
}

function extend(at) {
  if (!drag) return;
  if (drag.tool !== "box") stroke(drag.last, at);
  drag.last = at;
}

function end() {
  const { from, last, tool: kind } = drag;
  drag = null;
  if (kind !== "box") {
    const name = className(), isNew = kind === "brush" && !rows.get(mask.name)?.classes[value]?.[2];
    if (masks.finish()) save(isNew ? `${name} on ${mask.name} is yours: ${percent(masks.share(value))} of the photo` : "");
  } else if (Math.min(Math.abs(from[0] - last[0]), Math.abs(from[1] - last[1])) < 1)
    say("The box is empty: drag it around the object.", "error");
  else ask([from, last]);
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
canvas.onpointerup = () => {
  if (drag) end();
  draw();
};
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

function fill(row) {
  const tile = tiles.get(row.name), [picture, , facts] = tile.children, [, share, presence] = row.classes[value] || [];
  picture.src = `thumb?photo=${encodeURIComponent(row.name)}&changed=${row.version}`;
  const more = [share ? percent(share) : "", presence == null ? "" : `presence ${percent(presence)}`].filter(Boolean);
  facts.textContent = [wordOf(row), ...more].join(", ");
  tile.title = row.error || row.name;
  tile.classList.toggle("yours", wordOf(row).startsWith("by you"));
  tile.classList.toggle("missing", wordOf(row) === "not found");
}

function tileOf(name) {
  const picture = made("img", { loading: "lazy", alt: "", onerror: (event) => (event.target.alt = "cannot be read") });
  return made("button", { tabIndex: -1, onclick: () => open(name) }, picture, made("span", {}, name), made("span"));
}

function arrange() {
  const way = Number(element("order").value), wanted = element("show").value;
  const rank = (row) => way * (row.classes[value]?.[2] ?? 2 * way); // without a score: last
  const shown = state.photos.filter((row) => wanted === "all" || wordOf(row).startsWith(wanted));
  if (way) shown.sort((a, b) => rank(a) - rank(b));
  order = shown.map((row) => row.name);
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
    if (before.seen && state.done.number !== before.done.number) say(state.done.note);
    state.photos.forEach(fill);
    arrange();
    const wanted = decodeURIComponent(location.hash.slice(1));
    if (!rows.has(mask.name)) open(rows.has(wanted) ? wanted : (state.photos[0]?.name ?? ""));
  }
  const row = rows.get(mask.name);
  if (row && mask.label && row.version !== mask.version && edits === saved && !drag) await load(mask.name);
  show();
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
  element("formats").replaceChildren(...state.formats.map((kind) => made("label", {}, box(kind), kind)));
  element("weights").textContent = `${state.title}. ${state.outlook ? `On other objects: ${state.outlook}.` : ""}`;
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
  for (const [kind, word] of [["accept", "Accept"], ["empty", "Nothing here:"], ["back", "Give back"]])
    document.querySelector(`[data-do=${kind}]`).textContent = `${word} ${className()}`;
  if (mask.label) {
    const facts = state.classes.map(([known, name]) => {
      const [by, , presence] = rows.get(mask.name)?.classes[known] || [], share = masks.share(known);
      const who = mask.persons.has(known) ? "by you, " : by ? "" : "not searched, ";
      return `${name}: ${who}${share ? `${percent(share)} of the photo` : "nothing"}${presence == null ? "" : `, presence ${percent(presence)}`}`;
    });
    element("about").replaceChildren(made("b", {}, mask.name), `: ${rows.get(mask.name)?.error || facts.join("; ")}`);
  }
  const [verb, done, planned, left] = uploading || state.job || [], [bar, line] = element("job").children;
  element("job").hidden = !verb;
  [bar.max, bar.value] = [planned || 1, done || 0];
  const time = left > 90 ? `${Math.round(left / 60)} min` : `${Math.ceil(left)} s`;
  line.textContent = planned ? `${done} of ${planned} ${verb}${left ? `, ${time} left` : ""}` : "preparing";
  element("archive").hidden = !state.archive;
  canvas.ariaBusy = String(asked > 0 || Boolean(mask.name && !mask.label));
  draw();
}

// Photos that are sent

async function upload(files) {
  const lines = [];
  const photos = files.filter((file) => !file.name.startsWith(".") && (file.type.startsWith("image/") || /\.(avif|hei[cf]|jfif|tiff?)$/i.test(file.name)));
  uploading = ["uploaded", 0, photos.length];
  for (const file of photos) {
    if (!uploading) break;
    uploading[1] += 1;
    show();
    const answer = await request(`upload?name=${encodeURIComponent(file.name)}`, file, "application/octet-stream");
    if (answer.error || answer.note) lines.push(answer.error || answer.note);
  }
  const others = files.length - photos.length;
  if (others) lines.push(`${others} files left out: no photos`);
  uploading = null;
  await look();
  say([`${photos.length} photos sent`, ...lines.slice(0, 3)].join("; "), lines.length ? "error" : "");
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

function step(by) {
  const next = order[order.indexOf(mask.name) + by];
  if (next) open(next);
  tiles.get(next)?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

async function byName(action, values = {}) {
  const name = element("name").value.trim(), answer = await act(action, { ...values, name });
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
  undo: () => masks.undo() ? save() : say("nothing is left to undo on this photo"),
  redo: () => masks.redo() ? save() : say("nothing is left to redo on this photo"),
  larger: () => zoom(1.5),
  smaller: () => zoom(1 / 1.5),
  previous: () => step(-1),
  next: () => step(1),
  accept: () => decide("accept"),
  empty: () => decide("empty"),
  back: () => decide("back"),
  segment: () => act("segment", { photo: mask.name }),
  stop: () => (uploading ? (uploading = null) : act("stop")),
  pack: () => act("pack", { formats: [...document.querySelectorAll("#formats :checked")].map((one) => one.value) }),
};

function wander(event) {
  const all = [...grid.children], wide = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -wide, ArrowDown: wide }[event.key];
  if (by) all[all.indexOf(event.target.closest("#grid button")) + by]?.focus();
  return Boolean(by);
}

function press(event) {
  if (event.ctrlKey || event.metaKey) return { z: RUNS.undo, y: RUNS.redo }[event.key]?.() !== undefined;
  if (event.altKey) return false;
  const letter = event.key.toUpperCase().replace("=", "+"), digit = element("classes").children[event.key - 1];
  const button = digit || [...document.querySelectorAll("[title]")].find((one) => one.title === letter && one.checkVisibility());
  if (button) (button.control || button).click(); // a label itself would take the focus
  return Boolean(button);
}

document.onkeydown = (event) => {
  if (event.target.matches("select, input:not([type])")) return;
  const taken = event.target === canvas ? drawByKey(event) : grid.contains(event.target) && wander(event);
  if (taken || press(event)) event.preventDefault();
};
document.onclick = (event) => RUNS[event.target.closest("[data-do]")?.dataset.do]?.();
document.onsubmit = (event) => event.preventDefault();
document.onchange = ({ target }) => {
  if (target.name === "class") selectClass(Number(target.value));
  if (target.name === "tool") cancel();
  if (target.tagName === "SELECT") arrange();
  if (target.type === "file") {
    upload([...target.files]);
    target.value = ""; // the same files may be selected again
  }
  show();
};
document.ondragover = (event) => {
  event.preventDefault();
  document.body.classList.add("drop");
};
document.ondragleave = (event) => event.relatedTarget || document.body.classList.remove("drop"); // of the window
document.ondrop = async (event) => {
  event.preventDefault();
  document.body.classList.remove("drop");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  upload(await filesIn(entries));
};
element("size").oninput = element("opacity").oninput = window.onresize = draw;
look();
setInterval(() => document.hidden || inTurn(look), LOOK);
