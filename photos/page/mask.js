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

  // Colour the pixels of a part of the layer
  paint(left = 0, top = 0, right = this.width, bottom = this.height) {
    [left, top] = [Math.max(Math.floor(left), 0), Math.max(Math.floor(top), 0)];
    [right, bottom] = [Math.min(Math.ceil(right), this.width), Math.min(Math.ceil(bottom), this.height)];
    if (right <= left || bottom <= top) return;
    const pixels = new ImageData(right - left, bottom - top);
    for (let y = top, i = 0; y < bottom; y++)
      for (let x = left; x < right; x++, i += 4) {
        const colour = colours.get(this.label[y * this.width + x]);
        if (colour) pixels.data.set([...colour, 255], i);
      }
    this.layer.getContext("2d").putImageData(pixels, left, top);
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

  // Draw a line of a width through points, of a class or 0
  stroke(points, radius, value) {
    if (value) this.persons.add(value);
    points.forEach(([x1, y1], i) => {
      const [x0, y0] = points[Math.max(i - 1, 0)];
      const steps = Math.max(1, Math.ceil(Math.hypot(x1 - x0, y1 - y0) / Math.max(radius / 2, 0.5)));
      for (let j = 0; j <= steps; j++) this.disc(x0 + ((x1 - x0) * j) / steps, y0 + ((y1 - y0) * j) / steps, radius, value);
    });
    const [columns, rows] = [points.map(([x]) => x), points.map(([, y]) => y)], edge = radius + 2;
    this.paint(Math.min(...columns) - edge, Math.min(...rows) - edge, Math.max(...columns) + edge, Math.max(...rows) + edge);
  }

  disc(x, y, radius, value) {
    const [top, bottom] = [Math.max(0, Math.ceil(y - radius - 0.5)), Math.min(this.height - 1, Math.floor(y + radius))];
    for (let row = top; row <= bottom; row++) {
      const half = Math.sqrt(Math.max(radius * radius - (row + 0.5 - y) ** 2, 0));
      const [from, to] = [Math.max(0, Math.floor(x - half)), Math.min(this.width, Math.ceil(x + half))];
      for (let at = row * this.width + from; at < row * this.width + to; at++) {
        if (!value && this.label[at]) this.persons.add(this.label[at]); // what a person erases is a person's
        this.label[at] = value;
      }
    }
  }

  // Which other classes by a person lie in a region; null where some of it is free for the class
  othersIn(runs, value) {
    const found = new Set(decode(runs, this.label.length).map((inside, at) => (inside ? this.label[at] + 1 : 0)));
    const others = [...found].filter(Boolean).map((one) => one - 1);
    return others.length && others.every((one) => one !== value && this.persons.has(one)) ? others : null;
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
    let count = 0;
    for (const one of this.label) count += one === value;
    return count / this.label.length;
  }
}
