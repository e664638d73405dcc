// A grid of photos, and the photo that is open. An action is sent to the server; what follows from it comes with the
// next look at the state, also from other windows.

import { cancel, canvas, clearCross, draw, drawByKey, fit, layer, photo, zoom } from "./canvas.js";
import { explain, post, request, upload } from "./server.js";
import { current, element, isWaiting, say, state } from "./state.js";

const LOOK = 1000; // ms between two looks at the state

const grid = element("grid");
let rows = new Map(), tiles = new Map(); // of all photos, by name
let isSending = false;
const pending = new Map(); // edits to be sent, by the name of the photo, one after the other

const percent = (number) => `${Number((100 * number).toPrecision(2))} %`;

function made(tag, properties, ...children) {
  const out = Object.assign(document.createElement(tag), properties);
  out.append(...children);
  return out;
}

async function act(action, values = {}) {
  const answer = await post(action, values);
  if (!answer.error) say(answer.note);
  await look();
  return !answer.error;
}

// The grid

const presenceOf = (row) => row.presence[state.classes[current.value - 1][0]] ?? -1;
const isFound = (row) =>
  Object.entries(row.presence).some(([name, presence]) => {
    const isShown = presence === null ? row.share[name] > 0 : presence >= (state.rule[1] ?? state.network_rule[1]);
    return isShown && row.verdicts[name] !== "rejected";
  });

function statusOf(row) {
  const all = Object.values(row.verdicts);
  if (row.error) return "unread";
  if (!all.length) return row.example ? "example" : "";
  return all.includes("accepted") ? "accepted" : "rejected";
}

function tileOf(key) {
  const onerror = (event) => (event.target.alt = "cannot be read");
  const parts = [made("img", { loading: "lazy", alt: "", onerror }), made("span", {}, key), made("span")];
  return made("button", { tabIndex: -1, onclick: () => open(key) }, ...parts);
}

function fill(row) {
  const tile = tiles.get(row.name), status = statusOf(row), [picture, title, facts] = tile.children;
  picture.src = `thumb?photo=${encodeURIComponent(row.name)}&changed=${row.changed}`;
  title.replaceChildren(made("b", { className: status }, status === "unread" ? "not read" : status), row.name);
  facts.textContent = presenceOf(row) < 0 ? "" : `${percent(presenceOf(row))} presence score`;
  tile.title = row.error || row.name;
}

function arrange() {
  const way = Number(element("order").value), show = element("show").value;
  const kinds = (row) => ({ all: true, example: row.example, found: isFound(row), "to review": !row.fixed });
  const shown = [...rows.values()].filter((row) => kinds(row)[show] ?? statusOf(row) === show);
  const rank = (row) => (presenceOf(row) < 0 ? 2 : way * presenceOf(row)); // those without a score come last
  if (way) shown.sort((a, b) => rank(a) - rank(b));
  const focused = document.activeElement;
  grid.replaceChildren(...shown.map((row) => tiles.get(row.name)));
  if (grid.contains(focused)) focused.focus();
  reach();
}

// Take the server's state; whether it answers
async function look() {
  const before = { ...state }, answer = await request(`state?since=${state.now}`);
  if (answer.error) return false;
  if (answer.now < state.now) return true; // a later look came first
  Object.assign(state, answer);
  const had = rows.get(current.name);
  if (state.whole) {
    tiles = new Map(state.photos.map((row) => [row.name, tiles.get(row.name) || tileOf(row.name)]));
    rows = new Map();
  }
  state.photos.forEach((row) => rows.set(row.name, row));
  if (JSON.stringify(before.classes) !== JSON.stringify(state.classes)) showLists();
  state.photos.forEach(fill);
  if (state.whole || (before.job && !state.job)) arrange();
  if (state.note && (before.job || state.note !== before.note) && !state.job) say(state.note);
  const row = rows.get(current.name);
  if (!row) select([...rows.keys()][0] || "");
  else if (had && had.changed !== row.changed && !isSending)
    await load(!current.scene || current.scene.drawn !== row.drawn);
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
  Object.assign(current, { name: key, scene: null, edits: [], cleared: [] });
  clearCross();
  canvas.ariaBusy = true;
  if (key) await load(true);
  show();
}

async function open(key) {
  await select(key);
  canvas.style.scrollMarginTop = `${element("note").getBoundingClientRect().bottom + 4}px`; // which stays at the top
  canvas.scrollIntoView({ block: "nearest" });
}

async function load(withEdits) {
  const key = current.name, place = `photo=${encodeURIComponent(key)}`;
  layer.src = `layer?${place}&changed=${rows.get(key).changed}`;
  const answer = withEdits && (await request(`scene?${place}`));
  if (!answer || key !== current.name) return;
  canvas.ariaBusy = false;
  canvas.hidden = Boolean(answer.error) && !answer.isLost;
  if (answer.error) return;
  const isNew = !current.scene;
  Object.assign(current, { scene: answer, edits: answer.edits });
  if (isNew) {
    photo.src = `picture?${place}&changed=${rows.get(key).changed}`;
    fit();
  }
  draw();
}

function step(by) {
  const next = grid.children[[...grid.children].indexOf(tiles.get(current.name)) + by];
  if (!next) return;
  next.click();
  grid.scrollTop = next.offsetTop - (grid.clientHeight - next.offsetHeight) / 2;
}

function undo() {
  const { edits, cleared } = current;
  if (edits.length) send(edits.slice(0, -1));
  else if (cleared.length) send(cleared);
  else say("Nothing is left to undo on this photo.");
}

function clear() {
  const edits = current.edits;
  if (!edits.length) return say("Nothing is left to clear on this photo.");
  send([]);
  current.cleared = edits;
}

async function download() {
  if (!(await look())) return;
  if (state.archive) made("a", { href: "download", download: "predictions.zip" }).click();
  else say("The zip is not there any more: prepare it again.", "error");
}

async function ask({ action, ...values }) {
  current.isAsking = canvas.ariaBusy = true;
  say("The network is looking for the object ...");
  try {
    await act(action, { photo: current.name, ...values, before: current.scene.drawn });
  } finally {
    current.isAsking = canvas.ariaBusy = false;
  }
}

async function send(edits) {
  if (isWaiting()) return;
  Object.assign(current, { edits, cleared: [] });
  pending.set(current.name, { photo: current.name, edits, before: current.scene.drawn });
  draw();
  if (isSending) return;
  isSending = true;
  while (pending.size) {
    const [one] = pending.values();
    pending.delete(one.photo);
    const done = await act("draw", one), row = rows.get(one.photo), next = pending.get(one.photo);
    if (done && row && next) next.before = row.drawn;
    if (one.photo !== current.name || !row || next) continue;
    if (done && current.scene && current.edits === one.edits) current.scene.drawn = row.drawn;
    else await load(true);
  }
  isSending = false;
}

function showLists() {
  current.value = Math.min(current.value, state.classes.length);
  current.cleared = []; // the classes may have other numbers now
  const chips = state.classes.map(([name, colour], i) => {
    const radio = made("input", { type: "radio", name: "class", value: i + 1, checked: i + 1 === current.value });
    const chip = made("label", {}, radio, made("i"), name);
    chip.children[1].style.background = colour;
    return chip;
  });
  element("classes").replaceChildren(...chips);
  if (element("formats").firstChild) return; // what is ticked remains
  const isTicked = (kind) => ["png", "coco"].includes(kind);
  const box = (kind) => made("input", { type: "checkbox", value: kind, checked: isTicked(kind) });
  element("formats").replaceChildren(...state.formats.map((kind) => made("label", {}, box(kind), kind)));
}

function show() {
  const row = rows.get(current.name), all = [...rows.values()];
  document.body.classList.toggle("none", !current.name);
  reach();
  for (const tile of grid.children) tile.toggleAttribute("aria-current", false);
  if (row) tiles.get(current.name).setAttribute("aria-current", "true");
  const of = (status) => all.filter((one) => statusOf(one) === status).length;
  const segmented = all.filter((one) => one.found).length;
  const photos = `${all.length} photo${all.length === 1 ? "" : "s"}`;
  element("count").textContent = `${photos}, ${segmented} segmented, ${of("accepted")} accepted`;
  element("hint").textContent = document.querySelector("[name=tool]:checked").dataset.hint;
  const classes = Object.entries(row ? row.share : {}).map(([name, share]) => {
    const presence = row.presence[name] === null ? "" : `, presence score ${percent(row.presence[name])}`;
    const verdict = row.verdicts[name] ? `, ${row.verdicts[name]}` : "";
    return `${name}: ${row.fresh ? percent(share) : "?"} of the photo${presence}${verdict}`;
  });
  element("about").textContent = row ? `${[row.error || current.name, ...classes].join("; ")}.` : "";
  document.querySelector("[data-do=use_as_example]").setAttribute("aria-pressed", String(Boolean(row && row.example)));
  element("title").textContent = state.title;
  const [verb, done, planned, left] = state.job || [], [bar, line] = element("job").children;
  element("job").hidden = !state.job;
  [bar.max, bar.value] = [planned || 1, done || 0];
  const time = left > 90 ? `${Math.round(left / 60)} min` : `${Math.ceil(left)} s`;
  line.textContent = planned ? `${done} of ${planned} ${verb}${left ? `, ${time} left` : ""}` : "preparing";
  for (const [i, id] of ["threshold", "least"].entries()) {
    const input = element(id), now = String(state.rule[i] ?? state.network_rule[i]);
    input.parentElement.hidden = state.network_rule[i] === null;
    if (input.dataset.now !== now) input.value = input.dataset.now = now;
    input.nextElementSibling.textContent = percent(Number(input.value));
  }
  element("rules").hidden = !segmented;
  element("archive").hidden = !state.archive;
  draw();
}

// Keys and buttons

function press(event) {
  if (event.ctrlKey || event.metaKey) return event.key === "z" && run("undo");
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

// Do something with a class by the name that is entered, which is no longer needed then
async function byName(action, values = {}) {
  const name = element("name").value, isDone = await act(action, { ...values, name });
  if (isDone && element("name").value === name) element("name").value = "";
  return isDone;
}

const RUNS = {
  pick_files: () => element("files").click(),
  open: () => act("open", path()),
  annotations: () => act("annotations", path()),
  add_class: async () => (await byName("add_class")) && element("classes").lastChild.click(),
  rename_class: () => byName("rename_class", { value: current.value }),
  remove_class: () => {
    const [title] = state.classes[current.value - 1];
    const question = `Remove the class "${title}" and its annotations on all photos? This cannot be undone.`;
    if (confirm(question)) act("remove_class", { value: current.value });
  },
  remove: () => {
    const kept = "The photo and its result stay on disk; an annotation without a result is lost.";
    const question = `Remove ${current.name} from this page? ${kept}`;
    if (confirm(question)) act("remove", { photo: current.name });
  },
  undo,
  clear,
  larger: () => zoom(1.5),
  smaller: () => zoom(1 / 1.5),
  previous: () => step(-1),
  next: () => step(1),
  reset_rule: () => slide(null, null),
  pack: () => act("pack", { formats: [...document.querySelectorAll("#formats :checked")].map((one) => one.value) }),
  download,
  stop: () => act("stop"),
  samples: () => act("samples"),
};

async function judge(verdict) {
  const isDone = await act("judge", { photo: current.name, verdict, value: current.value });
  if (isDone && verdict) step(1);
}

function run(action) {
  if (action in RUNS) RUNS[action]();
  else if (["accepted", "rejected", ""].includes(action)) judge(action);
  else if (action === "use_as_example") act(action, { photo: current.name, value: current.value });
  else act(action, { photo: current.name });
  return true;
}

document.onclick = (event) => {
  const button = event.target.closest("[data-do]");
  if (button) run(button.dataset.do);
};
document.onchange = async (event) => {
  if (event.target.name === "class") {
    current.value = Number(event.target.value);
    rows.forEach(fill);
    arrange();
  }
  if (event.target.tagName === "SELECT") arrange();
  if (event.target.type === "file") {
    await upload([...event.target.files]);
    event.target.value = ""; // the same files may be selected again
  }
  cancel();
  look();
};
document.onsubmit = (event) => event.preventDefault();
const slide = (threshold, min_presence) => act("slide", { threshold, min_presence });
element("threshold").onchange = (event) => slide(Number(event.target.value), state.rule[1]);
element("least").onchange = (event) => slide(state.rule[0], Number(event.target.value));
element("threshold").oninput = element("least").oninput = show;
element("size").oninput = element("opacity").oninput = window.onresize = photo.onload = layer.onload = draw;
photo.onerror = layer.onerror = explain;
canvas.addEventListener("edit", (event) => send([...current.edits, event.detail]));
canvas.addEventListener("ask", (event) => ask(event.detail));
look();
setInterval(() => document.hidden || look(), LOOK);
