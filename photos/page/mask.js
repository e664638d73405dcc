// The open photo's mask, which the browser holds: class ids of all pixels and the classes that are a person's; drawing,
// undo and redo. What changed is told to ``changed``; runs are value, length, value, length ... row by row.

export const mask = { name: "", width: 0, height: 0, label: null, persons: new Set(), version: "", picture: null };
export const layer = document.createElement("canvas"); // the mask in colours, of the photo's size
let colours = new Map(); // of classes
let undone = [], done = []; // earlier masks
let before = null; // the mask as it was when the stroke began
const MOST = 100; // steps that can be taken back

const snapshot = () => ({ runs: encode(mask.label), persons: new Set(mask.persons) });

export function encode(label) {
  const runs = [];
  for (let i = 0; i < label.length; ) {
    let end = i + 1;
    while (end < label.length && label[end] === label[i]) end++;
    runs.push(label[i], end - i);
    i = end;
  }
  return runs;
}

export function decode(runs, length) {
  const label = new Uint8Array(length);
  for (let i = 0, at = 0; i < runs.length; at += runs[i + 1], i += 2) label.fill(runs[i], at, at + runs[i + 1]);
  return label;
}

export function close() {
  Object.assign(mask, { name: "", label: null, picture: null, version: "" });
  [undone, done, before] = [[], [], null];
}

// What a save asks of a version: the persons' masks and the photo, without the network's result
const saidIn = (version) => version.slice(version.indexOf("-"));

// Take a photo's mask as the server has it; what another window has said since can no longer be undone here
export function take(scene) {
  if (saidIn(scene.version) !== saidIn(mask.version)) [undone, done] = [[], []];
  Object.assign(mask, { width: scene.width, height: scene.height, version: scene.version });
  mask.label = decode(scene.runs, scene.width * scene.height);
  mask.persons = new Set(scene.persons);
  if (layer.width !== mask.width || layer.height !== mask.height)
    Object.assign(layer, { width: mask.width, height: mask.height });
  paint();
}

export function setColours(classes) {
  colours = new Map(classes.map(([value, , colour]) => [value, colour]));
  if (mask.label) paint();
}

// Colour the pixels of a part of the layer
function paint(left = 0, top = 0, right = mask.width, bottom = mask.height) {
  [left, top] = [Math.max(left, 0), Math.max(top, 0)];
  [right, bottom] = [Math.min(right, mask.width), Math.min(bottom, mask.height)];
  if (right <= left || bottom <= top) return;
  const pixels = new ImageData(right - left, bottom - top);
  for (let y = top, i = 0; y < bottom; y++)
    for (let x = left; x < right; x++, i += 4) {
      const colour = colours.get(mask.label[y * mask.width + x]);
      if (colour) pixels.data.set([...colour, 255], i);
    }
  layer.getContext("2d").putImageData(pixels, left, top);
}

// Draw a line of a width, of a class or 0, from one place to another
export function line([x0, y0], [x1, y1], radius, value) {
  before = before || snapshot();
  if (value) mask.persons.add(value);
  const steps = Math.max(1, Math.ceil(Math.hypot(x1 - x0, y1 - y0) / Math.max(radius / 2, 0.5)));
  for (let i = 0; i <= steps; i++) disc(x0 + ((x1 - x0) * i) / steps, y0 + ((y1 - y0) * i) / steps, radius, value);
  const [left, right] = [Math.min(x0, x1) - radius - 1, Math.max(x0, x1) + radius + 2];
  paint(Math.floor(left), Math.floor(Math.min(y0, y1) - radius - 1), Math.ceil(right),
    Math.ceil(Math.max(y0, y1) + radius + 2));
}

function disc(x, y, radius, value) {
  const [top, bottom] = [Math.max(0, Math.ceil(y - radius - 0.5)), Math.min(mask.height - 1, Math.floor(y + radius))];
  for (let row = top; row <= bottom; row++) {
    const half = Math.sqrt(Math.max(radius * radius - (row + 0.5 - y) ** 2, 0));
    const [from, to] = [Math.max(0, Math.floor(x - half)), Math.min(mask.width, Math.ceil(x + half))];
    for (let at = row * mask.width + from; at < row * mask.width + to; at++) {
      if (!value && mask.label[at]) mask.persons.add(mask.label[at]); // what a person erases is a person's
      mask.label[at] = value;
    }
  }
}

// End a change: it can be taken back then; whether there was one
export function finish() {
  if (!before) return false;
  done = [...done.slice(1 - MOST), before];
  [undone, before] = [[], null];
  return true;
}

export function cancel() {
  if (before) restore(before);
  before = null;
}

function restore({ runs, persons }) {
  mask.label = decode(runs, mask.label.length);
  mask.persons = new Set(persons);
  paint();
}

export function undo() {
  if (!done.length) return false;
  undone.push(snapshot());
  restore(done.pop());
  return true;
}

export function redo() {
  if (!undone.length) return false;
  done.push(snapshot());
  restore(undone.pop());
  return true;
}

// Make a change of a class: "add" pixels of a region's runs that are of no other class by a person, "accept" the mask,
// "empty" it, or give it "back"
export function change(kind, value, runs = []) {
  before = snapshot();
  const region = kind === "add" ? decode(runs, mask.label.length) : null;
  const isOpen = (known) => known === value || !mask.persons.has(known);
  for (let at = 0; at < mask.label.length; at++)
    if (region ? region[at] && isOpen(mask.label[at]) : mask.label[at] === value && kind !== "accept")
      mask.label[at] = region ? value : 0;
  if (kind === "back") mask.persons.delete(value);
  else mask.persons.add(value);
  paint();
  return finish();
}

// The share of a class in the photo
export function share(value) {
  let count = 0;
  for (const one of mask.label) count += one === value;
  return count / mask.label.length;
}
