// A grid of photos, and the photo that is open. An action is sent to the server; what follows from it comes with the
// next look at the state, also from other windows. The address names photo, filter, order and tool.

import { cancel, canvas, clearCross, draw, drawByKey, fit, zoom } from "./canvas.js";
import { explain, filesIn, post, request, upload, uploading } from "./server.js";
import { className, current, element, plural, say, state, tool } from "./state.js";

const LOOK = 1000; // ms between two looks at the state
const NAME_END = 12; // characters of a photo's name that are shown also where it is cut
const FORMATS = { png: "PNG masks", coco: "COCO", yolo: "YOLO", labelstudio: "Label Studio", cutout: "Cut-outs" };

const grid = element("grid");
let rows = new Map(), tiles = new Map(); // of all photos, by name
let order = []; // names of the photos that the grid shows
let turn = Promise.resolve(); // of the last action; they are sent one after the other
let asked = 0; // questions to the network that are not answered
let sliding = 0; // changes of the sliders that the server has not taken
const judged = []; // names of photos, for Undo

function percent(share) {
  return share > 0 && share < 0.01 ? "< 1 %" : `${Math.round(100 * share)} %`;
}

function made(tag, properties, ...children) {
  const out = Object.assign(document.createElement(tag), properties);
  out.append(...children);
  return out;
}

function inTurn(work) {
  turn = turn.then(work, work);
  return turn;
}

// Send an action, with what ``values`` returns once the actions before are done; whether it is done
function act(action, values = () => ({}), kind = "") {
  return inTurn(async () => {
    const answer = await post(action, values());
    if (!answer.error) say(answer.note, kind);
    await look();
    return !answer.error;
  });
}

// The grid

const least = () => Number(element("least").value); // as the slider stands
const isFound = (row, name) => {
  const presence = row.presence[name] ?? 1, isShown = row.share[name] > 0 || !row.fresh;
  return isShown && presence >= (state.network_rule[1] === null ? 0 : least()) && row.verdicts[name] !== "rejected";
};

function badgesOf(row) {
  const words = new Set(Object.values(row.verdicts));
  const badges = ["accepted", "rejected"].filter((word) => words.has(word));
  if (row.example.length) badges.unshift("example");
  return row.error ? ["unread"] : badges;
}

function tileOf(key) {
  const onerror = (event) => (event.target.alt = "cannot be read");
  const picture = made("img", { loading: "lazy", alt: "", onerror });
  const title = made("span", { className: "name" }, made("span", {}, key.slice(0, -NAME_END)), key.slice(-NAME_END));
  const parts = [picture, made("span", { className: "badges" }), title, made("span")];
  return made("button", { tabIndex: -1, onclick: () => open(key) }, ...parts);
}

function fill(row) {
  const tile = tiles.get(row.name), [picture, badges, , facts] = tile.children, name = className();
  picture.src = `thumb?photo=${encodeURIComponent(row.name)}&changed=${row.changed}`;
  const marks = badgesOf(row).map((word) => made("b", { className: word }, word === "unread" ? "not read" : word));
  badges.replaceChildren(...marks);
  const isMissing = row.found && !Object.keys(row.share).some((known) => isFound(row, known));
  const presence = row.presence[name];
  const which = state.classes.length > 1 ? `: ${name}` : "";
  const score = presence === undefined || presence === null ? "" : `presence ${percent(presence)}${which}`;
  facts.textContent = [isMissing && "no mask", score].filter(Boolean).join("\n");
  tile.classList.toggle("none", isMissing);
  tile.title = row.error || row.name;
}

function arrange() {
  const way = Number(element("order").value), show = element("show").value, name = className();
  const isShown = {
    all: () => true,
    found: (row) => isFound(row, name),
    "to review": (row) => !row.fixed,
  };
  const of = isShown[show] || ((row) => badgesOf(row).includes(show));
  const rank = (row) => (row.presence[name] ?? null) === null ? 2 : way * row.presence[name]; // without a score: last
  const shown = [...rows.values()].filter(of);
  if (way) shown.sort((a, b) => rank(a) - rank(b));
  order = shown.map((row) => row.name);
  showTiles(order.map((name) => tiles.get(name)));
  reach();
}

// Show some tiles in an order; those that keep their place are left alone, also under a finger or with the focus
function showTiles(shown) {
  const wanted = new Set(shown), focused = document.activeElement;
  for (const tile of [...grid.children]) if (!wanted.has(tile)) tile.remove();
  let next = grid.firstChild;
  for (const tile of shown) {
    if (tile === next) next = next.nextSibling;
    else grid.insertBefore(tile, next);
  }
  if (grid.contains(focused)) focused.focus();
}

// Take the server's state; whether it answers
async function look() {
  const answer = await request(`state?since=${state.now}`);
  if (answer.error) return false;
  if (answer.now < state.now) return true; // a later look came first
  const before = { ...state };
  Object.assign(state, answer);
  const had = rows.get(current.name);
  if (state.whole) {
    tiles = new Map(state.photos.map((row) => [row.name, tiles.get(row.name) || tileOf(row.name)]));
    rows = new Map();
  }
  state.photos.forEach((row) => rows.set(row.name, row));
  if (JSON.stringify(before.classes) !== JSON.stringify(state.classes)) showLists();
  if (JSON.stringify(before.about) !== JSON.stringify(state.about)) showWeights();
  if (before.now < 0) restore();
  showRules();
  state.photos.forEach(fill);
  const isDone = state.done.number !== before.done.number; // a piece of work
  if (state.whole || isDone) arrange();
  if (state.done.note && isDone) say(state.done.note);
  const row = rows.get(current.name);
  if (!row) select([...rows.keys()][0] || "");
  else if (had && had.changed !== row.changed) loadMask(row);
  show();
  return true;
}

function reach() {
  // Tab stops at one tile of the grid, the open photo's where it is shown
  const open = tiles.get(current.name), stop = grid.contains(open) ? open : grid.firstChild;
  for (const tile of grid.children) tile.tabIndex = tile === stop ? 0 : -1;
}

function wander(event) {
  const all = [...grid.children], wide = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -wide, ArrowDown: wide }[event.key];
  const next = by && all[all.indexOf(event.target.closest("#grid button")) + by];
  if (next) next.focus();
  return Boolean(by);
}

// The photo that is open

async function select(key) {
  Object.assign(current, { name: key, scene: null, picture: null, layer: null, pending: [] });
  clearCross();
  show();
  if (!key) return;
  const place = `photo=${encodeURIComponent(key)}`, row = rows.get(key);
  loadMask(row);
  const answer = await request(`scene?${place}`);
  if (key !== current.name) return;
  canvas.hidden = Boolean(answer.error) && !answer.isLost;
  if (answer.error) return;
  current.scene = answer;
  const picture = new Image();
  picture.onload = () => {
    if (key === current.name) current.picture = picture;
    draw();
  };
  picture.onerror = explain;
  picture.src = `picture?${place}&changed=${row.changed}`;
  fit();
  show();
}

// Load the mask of the open photo; until it is there the earlier one is shown, and the edits that are not in it
function loadMask(row) {
  const layer = new Image(), sent = current.pending.filter((edit) => edit.isSent);
  layer.onload = () => {
    if (row.name !== current.name || rows.get(row.name)?.changed !== row.changed) return;
    current.layer = layer;
    current.pending = current.pending.filter((edit) => !sent.includes(edit));
    draw();
  };
  layer.onerror = explain;
  layer.src = `layer?photo=${encodeURIComponent(row.name)}&changed=${row.changed}`;
}

async function open(key) {
  if (key !== current.name) await select(key);
  remember(true);
  canvas.style.scrollMarginTop = `${element("note").getBoundingClientRect().bottom + 4}px`; // which stays at the top
  canvas.scrollIntoView({ block: "nearest" });
}

function step(by) {
  const next = order[order.indexOf(current.name) + by];
  if (!next) return;
  open(next);
  tiles.get(next).scrollIntoView({ block: "nearest", inline: "nearest" });
}

async function download() {
  if (!(await look())) return;
  if (state.archive) made("a", { href: "download", download: "predictions.zip" }).click();
  else say("The zip is not there any more: prepare it again.", "error");
}

// Do something with the open photo, as it is shown here: not where another window has changed it meanwhile
function onPhoto(action, values = {}, kind = "") {
  const photo = current.name;
  return act(action, () => ({ photo, seen: rows.get(photo)?.changed, ...values }), kind);
}

// Ask the network for what is drawn
async function ask({ action, ...values }) {
  asked += 1;
  say("The network is looking for the object ...");
  show();
  await onPhoto(action, values);
  asked -= 1;
  show();
}

function send(edit) {
  const photo = current.name;
  current.pending.push(edit);
  draw();
  return inTurn(async () => {
    const { tool, value, radius, points } = edit;
    const answer = await post("draw", { photo, edit: { tool, value, radius, points } });
    edit.isSent = true;
    if (answer.error) current.pending = current.pending.filter((one) => one !== edit);
    else if (answer.note) say(answer.note);
    await look();
  });
}

// Filter, order, tool and photo in the address, a new entry for Back where that is a new photo
function remember(isNew) {
  const values = { photo: current.name, show: element("show").value, order: element("order").value, tool: tool() };
  const address = `#${new URLSearchParams(values)}`;
  if (address !== location.hash) history[isNew ? "pushState" : "replaceState"](null, "", address);
}

function restore() {
  const kept = new URLSearchParams(location.hash.slice(1));
  for (const id of ["show", "order"]) element(id).value = kept.get(id) || element(id).options[0].value;
  const radio = [...document.querySelectorAll("[name=tool]")].find((one) => one.value === kept.get("tool"));
  if (radio) radio.checked = true;
  if (rows.has(kept.get("photo")) && kept.get("photo") !== current.name) select(kept.get("photo"));
}

// The state's visible part

function selectClass(value) {
  current.value = value;
  for (const radio of document.querySelectorAll("[name=class]")) radio.checked = Number(radio.value) === value;
  rows.forEach(fill);
  arrange();
  show();
}

function showLists() {
  if (!state.classes.some(([value]) => value === current.value)) current.value = state.classes[0][0];
  const chips = state.classes.map(([value, name, colour]) => {
    const radio = made("input", { type: "radio", name: "class", value, checked: value === current.value });
    const chip = made("label", {}, radio, made("i"), name);
    chip.children[1].style.background = colour;
    return chip;
  });
  element("classes").replaceChildren(...chips);
  if (element("formats").firstChild) return; // what is ticked remains
  const isTicked = (kind) => ["png", "coco"].includes(kind);
  const box = (kind) => made("input", { type: "checkbox", value: kind, checked: isTicked(kind) });
  element("formats").replaceChildren(
    ...state.formats.map((kind) => made("label", {}, box(kind), FORMATS[kind] || kind)),
  );
}

function showWeights() {
  const { title, outlook, command } = state.about;
  const lines = [`${title}.`, outlook ? `On other objects: ${outlook}.` : "No accuracy was measured here."];
  const better = command ? [made("p", {}, "With more accurate weights (3.8 GB):"), made("code", {}, command)] : [];
  element("weights").replaceChildren(made("p", {}, lines.join(" ")), ...better);
}

function showRules() {
  for (const [i, id] of ["threshold", "least"].entries()) {
    const input = element(id), now = String(state.rule[i] ?? state.network_rule[i]);
    input.parentElement.hidden = state.network_rule[i] === null;
    const isMoved = sliding > 0 || input.matches(":active"); // by the user
    if (!isMoved && input.dataset.now !== now) input.value = input.dataset.now = now;
    input.nextElementSibling.textContent = percent(Number(input.value));
  }
}

function showCounts() {
  const all = [...rows.values()], name = className();
  const searched = all.filter((row) => row.found && name in row.share);
  const found = searched.filter((row) => isFound(row, name)).length;
  const counts = [plural(all.length)];
  if (searched.length) counts.push(`${found} of ${searched.length} show${searched.length > 1 ? "" : "s"} ${name}`);
  const accepted = all.filter((row) => badgesOf(row).includes("accepted")).length;
  if (accepted) counts.push(`${accepted} accepted`);
  element("count").textContent = counts.join(", ");
  element("rules").hidden = !all.some((row) => row.found);
}

function showPhoto() {
  const row = rows.get(current.name);
  const classes = Object.entries(row?.share || {}).map(([name, share]) => {
    const presence = row.presence[name] === null ? "" : `, presence score ${percent(row.presence[name])}`;
    const verdict = row.verdicts[name] ? `, ${row.verdicts[name]}` : "";
    return `${name}: ${row.fresh ? percent(share) : "?"} of the photo${presence}${verdict}`;
  });
  const hint = document.querySelector("[name=tool]:checked").dataset.hint.replaceAll("CLASS", className());
  const facts = row ? `${[row.error || current.name, ...classes].join("; ")}.` : "";
  element("about").replaceChildren(made("b", {}, facts), ` ${hint}`);
  const isTaught = Boolean(row && row.example.includes(className()));
  document.querySelector("[data-do=use_as_example]").setAttribute("aria-pressed", String(isTaught));
}

function showJob() {
  const [verb, done, planned, left] = uploading.planned
    ? ["uploading", uploading.done, uploading.planned]
    : state.job || [];
  const [bar, line] = element("job").children;
  element("job").hidden = !verb;
  [bar.max, bar.value] = [planned || 1, done || 0];
  const time = left > 90 ? `${Math.round(left / 60)} min` : `${Math.ceil(left)} s`;
  const count = verb === "uploading" ? `uploading ${done} of ${planned}` : `${done} of ${planned} ${verb}`;
  line.textContent = planned ? `${count}${left ? `, ${time} left` : ""}` : "preparing";
}

function show() {
  document.body.classList.toggle("none", !current.name);
  reach();
  for (const tile of grid.children) tile.toggleAttribute("aria-current", false);
  tiles.get(current.name)?.setAttribute("aria-current", "true");
  canvas.ariaBusy = asked > 0 || Boolean(current.name && !current.scene);
  element("archive").hidden = !state.archive;
  showCounts();
  showPhoto();
  showJob();
  draw();
}

// Keys and buttons

function press(event) {
  if (event.ctrlKey || event.metaKey) return { z: () => run("undo"), y: () => run("redo") }[event.key]?.();
  if (event.altKey) return false;
  const letter = event.key.toUpperCase().replace("=", "+"), digit = element("classes").children[event.key - 1];
  const isMeant = (one) => one.title === letter && one.checkVisibility();
  const button = digit || [...document.querySelectorAll("[title]")].find(isMeant);
  if (button) (button.control || button).click(); // a label itself would take the focus
  return Boolean(button);
}

document.onkeydown = (event) => {
  if (event.target.matches("select, input:not([type])")) return;
  const take = event.target === canvas ? drawByKey : grid.contains(event.target) ? wander : () => false;
  if (take(event) || press(event)) event.preventDefault();
};

const path = () => ({ path: element("path").value });
const ticked = () => [...document.querySelectorAll("#formats :checked")].map((one) => one.value);

// Do something with a class by the name in a field, which is no longer needed then
async function byName(action, field, values = {}) {
  const name = element(field).value, isDone = await act(action, () => ({ ...values, name }));
  if (isDone && element(field).value === name) element(field).value = "";
  return isDone;
}

const RUNS = {
  pick_photos: () => element("photos").click(),
  pick_annotations: () => element("annotations").click(),
  open: () => act("open", path),
  annotations: () => act("annotations", path),
  add_class: async () => {
    const name = element("name").value.trim();
    const isAdded = await byName("add_class", "name");
    const added = isAdded && state.classes.find(([, known]) => known === name);
    if (added) selectClass(added[0]);
  },
  rename_class: () => byName("rename_class", "new_name", { value: current.value }),
  remove_class: () => {
    const { value } = current;
    const question = `Remove the class "${className()}" and its annotations on all photos? This cannot be undone.`;
    if (confirm(question)) act("remove_class", () => ({ value }));
  },
  remove: () => {
    const kept = "The photo and its result stay on disk; an annotation without a result is lost.";
    const photo = current.name;
    if (confirm(`Remove ${photo} from this page? ${kept}`)) act("remove", () => ({ photo }));
  },
  undo: () => onPhoto("undo"),
  redo: () => onPhoto("redo"),
  clear: () => onPhoto("clear"),
  larger: () => zoom(1.5),
  smaller: () => zoom(1 / 1.5),
  previous: () => step(-1),
  next: () => step(1),
  reset_rule: () => slide(() => [null, null]),
  pack: () => act("pack", () => ({ formats: ticked() })),
  download,
  stop: () => (uploading.planned ? (uploading.planned = 0) : act("stop")),
  samples: () => act("samples"),
  use_as_example: () => onPhoto("use_as_example", { value: current.value }),
  accepted: () => judge("accepted"),
  rejected: () => judge("rejected"),
  "": async () => {
    let photo = "", shown = "";
    const values = () => {
      shown = current.name;
      photo = judged.pop() || shown;
      return { photo, verdict: "", value: current.value };
    };
    if ((await act("judge", values)) && current.name === shown) open(photo);
  },
  segment: () => act("segment", () => ({ photo: current.name })),
};

async function judge(verdict) {
  const photo = current.name;
  if (!(await onPhoto("judge", { verdict, value: current.value }, verdict))) return;
  judged.push(photo);
  if (photo === current.name) step(1);
}

// Change the rule of masks to what ``rule`` says once the changes before are taken
async function slide(rule) {
  sliding += 1;
  await act("slide", () => {
    const [threshold, min_presence] = rule();
    return { threshold, min_presence };
  });
  sliding -= 1;
  showRules();
}

function run(action) {
  RUNS[action]();
  return true;
}

async function take(files, areAnnotations) {
  await upload(files, areAnnotations, show);
  await look();
}

document.onclick = (event) => {
  const button = event.target.closest("[data-do]");
  if (button) run(button.dataset.do);
  const menu = event.target.closest(".menu");
  for (const other of document.querySelectorAll(".menu[open]")) if (other !== menu) other.open = false;
};
document.onchange = ({ target }) => {
  if (target.name === "class") selectClass(Number(target.value));
  if (target.type === "radio") cancel();
  if (target.tagName === "SELECT") arrange();
  if (target.type === "file") {
    const files = [...target.files].map((file) => [file.name, file]);
    take(files, target.id === "annotations");
    target.value = ""; // the same files may be selected again
  }
  remember(false);
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
  if (entries.length) take(await filesIn(entries), false);
  else say("Drop photos, annotations, or folders of them.", "error");
};
document.onsubmit = (event) => event.preventDefault();
window.onpopstate = restore;
element("threshold").onchange = () => slide(() => [Number(element("threshold").value), state.rule[1]]);
element("least").onchange = () => slide(() => [state.rule[0], least()]);
element("threshold").oninput = element("least").oninput = () => {
  showRules();
  showCounts();
};
element("size").oninput = element("opacity").oninput = window.onresize = draw;
canvas.addEventListener("edit", (event) => send(event.detail));
canvas.addEventListener("ask", (event) => ask(event.detail));
look();
setInterval(() => document.hidden || look(), LOOK);
