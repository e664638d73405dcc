// A photo and its mask as the browser holds them: class ids of all pixels, and the classes that are a person's. Runs are
// value, length, value, length ... row by row.

let colours = new Map(); // of classes

export const setColours = (classes) => (colours = new Map(classes.map(([value, , colour]) => [value, colour])));
export const colourOf = (value) => `rgb(${colours.get(value)})`;

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

function decode(runs, length) {
  const label = new Uint8Array(length);
  for (let i = 0, at = 0; i < runs.length; at += runs[i + 1], i += 2) label.fill(runs[i], at, at + runs[i + 1]);
  return label;
}

// Draw the stroke of a press, as large as the photo
export function ink(context, { kind, of, points, radius }) {
  context.globalCompositeOperation = kind === "eraser" ? "destination-out" : "source-over";
  Object.assign(context, { strokeStyle: colourOf(of), lineWidth: 2 * radius, lineCap: "round", lineJoin: "round" });
  context.beginPath();
  for (const [x, y] of [points[0].map((one) => one + 0.01), ...points]) context.lineTo(x, y); // a point has no length
  context.stroke();
}

export class Scene {
  constructor(name) {
    Object.assign(this, { name, width: 0, height: 0, label: null, persons: new Set(), version: "", picture: null });
    this.isDrawn = false; // whether it was changed since it was sent
    this.view = { zoom: 1, x: 0, y: 0 };
    this.layer = document.createElement("canvas"); // the mask in colours, of the photo's size
  }

  // Take the mask as the server has it
  take({ width, height, version, runs, persons }) {
    if (this.width !== width || this.height !== height) {
      Object.assign(this.layer, { width, height });
      this.view = { zoom: 1, x: width / 2, y: height / 2 };
    }
    Object.assign(this, { width, height, version, label: decode(runs, width * height), persons: new Set(persons) });
    this.paint();
  }

  paint() {
    const pixels = new ImageData(this.width, this.height);
    this.label.forEach((value, at) => colours.has(value) && pixels.data.set([...colours.get(value), 255], 4 * at));
    this.layer.getContext("2d").putImageData(pixels, 0, 0);
  }

  // What persons say: runs of their pixels, and their classes; as a text, which tells whether it is the same
  said() {
    const kept = Uint8Array.from({ length: 256 }, (_, value) => (this.persons.has(value) ? value : 0));
    return JSON.stringify({ runs: encode(this.label.map((value) => kept[value])), persons: [...this.persons].sort() });
  }

  // Take what persons have said before
  restore(said) {
    const { runs, persons } = JSON.parse(said);
    this.label = decode(runs, this.label.length);
    this.persons = new Set(persons.filter((value) => colours.has(value)));
    this.paint();
  }

  // Draw a stroke, of its class or of none
  stroke(press) {
    const inked = this.copy();
    inked.clearRect(0, 0, this.width, this.height);
    ink(inked, { ...press, kind: "brush" });
    const { data } = inked.getImageData(0, 0, this.width, this.height), isBrush = press.kind === "brush";
    const before = isBrush ? new Set(this.label) : [];
    if (isBrush) this.persons.add(press.of);
    for (let at = 0; at < this.label.length; at++) {
      if (data[4 * at + 3] < 128) continue; // most of the pixel is outside
      if (!isBrush && this.label[at]) this.persons.add(this.label[at]); // what a person erases is a person's
      this.label[at] = isBrush ? press.of : 0;
    }
    for (const one of before) if (!this.label.includes(one)) this.persons.delete(one); // nobody says that it is absent
    this.paint();
  }

  // A copy of the layer, to draw on
  copy() {
    const { width, height } = this, context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
    context.drawImage(this.layer, 0, 0);
    return context;
  }

  // Which other classes by a person lie in a region, or at the place of a click; null where it is free for the class
  othersIn(runs, value, place) {
    const isOther = (known) => known !== value && this.persons.has(known);
    const at = place?.map((one, i) => Math.min(Math.floor(one), (i ? this.height : this.width) - 1));
    const under = at && this.label[at[1] * this.width + at[0]];
    if (isOther(under)) return [under];
    const inside = decode(runs, this.label.length), found = new Set(this.label.filter((_, at) => inside[at]));
    return [...found].every(isOther) ? [...found] : null;
  }

  // Add pixels of a region that are of no other class by a person
  add(runs, value) {
    decode(runs, this.label.length).forEach((inside, at) => {
      if (inside && !this.persons.has(this.label[at])) this.label[at] = value;
    });
    this.persons.add(value);
    this.paint();
  }

  // Take a class's mask as a person's: "accept" it, "empty" it, or give it "back"
  decide(kind, value) {
    if (kind !== "accept") this.label = this.label.map((one) => (one === value ? 0 : one));
    if (kind === "back") this.persons.delete(value);
    else this.persons.add(value);
    this.paint();
  }

  // The share of a class in the photo
  share(value) {
    return this.label.reduce((count, one) => count + (one === value), 0) / this.label.length;
  }
}
