// Draws marks on a photo and sends them to the page as JSON in pixels of the photo (see marks.py).
// props.scene: the photo (Photo.scene); props.value: key and marks that are sent; props.place: the name of this
// canvas in events; props.empty: the line without a photo; props.colours: of the classes;
// props.unknown: radii of a point's ring.

const LEAST_DRAG = 5; // pixels of the screen; a shorter drag is the first of two clicks
const THOUSANDTHS = 1000; // the slider's unit, of the photo's longer side

const root = element.querySelector(".marker");
const canvas = root.querySelector("canvas");
const size = root.querySelector("input");
const context = canvas.getContext("2d");
const paint = document.createElement("canvas"); // the layer and the marks, opaque
const photo = new Image();
const layer = new Image();
const dash = [6, 4];
const OPACITY = 0.5; // of masks and marks

let scene = null;
let marks = [];
let tool = "brush";
let value = 1; // the class
let drawn = null; // the mark that is being drawn
let cross = null; // the place of the keyboard's cross, or of the pointer
let pressed = null; // the pointer's place on the screen when it was pressed

const radius = () => (size.value / THOUSANDTHS) * Math.max(scene.width, scene.height);
const limit = (number, most) => Math.round(Math.min(Math.max(number, 0), most) * 10) / 10;
const inside = (x, y) => [limit(x, scene.width - 1), limit(y, scene.height - 1)];

function place(event) {
  const frame = canvas.getBoundingClientRect();
  const x = ((event.clientX - frame.left) / frame.width) * scene.width;
  const y = ((event.clientY - frame.top) / frame.height) * scene.height;
  return tool === "box" ? [limit(x, scene.width), limit(y, scene.height)] : inside(x, y);
}

function trace(pen, mark, scale) {
  const points = mark.points.map(([x, y]) => [x * scale, y * scale]);
  pen.globalCompositeOperation = mark.tool === "eraser" ? "destination-out" : "source-over";
  pen.fillStyle = pen.strokeStyle = props.colours[mark.value - 1];
  pen.lineWidth = 2 * mark.radius * scale;
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  if (mark.tool === "box") {
    const [[x0, y0], [x1, y1]] = points;
    pen.fillRect(Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0));
  } else if (mark.tool === "point" || points.length === 1) {
    for (const [x, y] of points) {
      pen.moveTo(x, y);
      pen.arc(x, y, mark.radius * scale, 0, 2 * Math.PI);
    }
    pen.fill();
  } else {
    points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    pen.stroke();
  }
  pen.globalCompositeOperation = "source-over";
}

function ring(x, y, length, dashed) {
  for (const [colour, width] of [["#000", 3], ["#fff", 1.5]]) {
    context.beginPath();
    context.setLineDash(dashed ? dash : []);
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.arc(x, y, length, 0, 2 * Math.PI);
    context.stroke();
  }
  context.setLineDash([]);
}

function draw() {
  if (!scene || !photo.naturalWidth) return;
  const scale = canvas.width / scene.width;
  const pen = paint.getContext("2d");
  const all = drawn ? [...marks, drawn] : marks;
  pen.clearRect(0, 0, paint.width, paint.height);
  if (layer.naturalWidth && scene.layer) pen.drawImage(layer, 0, 0, paint.width, paint.height);
  all.forEach((mark) => trace(pen, mark, scale));
  context.drawImage(photo, 0, 0, canvas.width, canvas.height);
  context.globalAlpha = OPACITY;
  context.drawImage(paint, 0, 0);
  context.globalAlpha = 1;
  for (const mark of all)
    if (mark.tool === "point")
      for (const [x, y] of mark.points) ring(x * scale, y * scale, props.unknown * mark.radius * scale, true);
  if (cross) {
    const [x, y] = [cross[0] * scale, cross[1] * scale];
    ring(x, y, tool === "box" ? 4 : Math.max(radius() * scale, 2), false);
  }
}

function show() {
  root.classList.toggle("empty", !scene);
  for (const button of root.querySelectorAll("[data-tool]"))
    button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
  for (const input of root.querySelectorAll("button, input")) input.disabled = !scene;
  const hint = root.querySelector(`[data-tool=${tool}]`).dataset.hint;
  root.querySelector(".hint").textContent = scene ? hint : props.empty;
  draw();
}

function load() {
  const before = scene;
  scene = props.scene ? JSON.parse(props.scene) : null;
  if (!scene) photo.removeAttribute("src");
  if (scene && (!before || before.key !== scene.key)) {
    cross = drawn = null;
    marks = scene.marks;
    photo.src = scene.photo;
  }
  if (scene && scene.layer) layer.src = scene.layer;
  show();
}

photo.onload = () => {
  canvas.width = paint.width = photo.naturalWidth;
  canvas.height = paint.height = photo.naturalHeight;
  draw();
};
layer.onload = draw;

function send() {
  props.value = JSON.stringify({ key: scene.key, marks });
  trigger("input");
  draw();
}

function begin(point) {
  drawn = { tool, value, radius: radius(), points: tool === "box" ? [point, point] : [point] };
  if (tool === "point") end();
}

function extend(point) {
  if (!drawn) return;
  if (drawn.tool === "box") drawn.points[1] = point;
  else drawn.points.push(point);
}

function end() {
  const [first, last] = [drawn.points[0], drawn.points[drawn.points.length - 1]];
  const flat = drawn.tool === "box" && (Math.abs(first[0] - last[0]) < 1 || Math.abs(first[1] - last[1]) < 1);
  if (!flat) marks = [...marks, drawn];
  drawn = null;
  if (!flat) send();
}

canvas.addEventListener("pointerdown", (event) => {
  if (!scene || event.button) return;
  event.preventDefault();
  canvas.focus();
  canvas.setPointerCapture(event.pointerId);
  cross = place(event);
  if (drawn) extend(cross);
  else {
    pressed = [event.clientX, event.clientY];
    begin(cross);
  }
  draw();
});

canvas.addEventListener("pointermove", (event) => {
  if (!scene) return;
  const steps = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
  for (const step of steps.length ? steps : [event]) {
    cross = place(step);
    extend(cross);
  }
  draw();
});

canvas.addEventListener("pointerup", (event) => {
  if (!scene || !drawn) return;
  const moved = pressed && Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]);
  const firstClick = drawn.tool === "box" && pressed && moved < LEAST_DRAG;
  pressed = null;
  if (!firstClick) end();
  draw();
});

canvas.addEventListener("pointercancel", () => {
  drawn = null;
  draw();
});

canvas.addEventListener("pointerleave", () => {
  if (!drawn) cross = null;
  draw();
});

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

canvas.addEventListener("keydown", (event) => {
  if (!scene) return;
  const middle = [scene.width / 2, scene.height / 2];
  if (event.key in MOVES) {
    const step = Math.max(scene.width, scene.height) / (event.shiftKey ? 200 : 50);
    const [x, y] = cross || middle;
    cross = inside(x + step * MOVES[event.key][0], y + step * MOVES[event.key][1]);
    extend(cross);
  } else if (event.key === " " || event.key === "Enter") {
    cross = cross || middle;
    if (drawn) end();
    else begin(cross);
  } else if (event.key === "Escape") drawn = null;
  else if (event.key === "z" && (event.ctrlKey || event.metaKey)) undo();
  else return;
  event.preventDefault();
  draw();
});

function undo() {
  if (!marks.length) return;
  marks = marks.slice(0, -1);
  send();
}

root.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || !scene) return;
  if (button.dataset.tool) tool = button.dataset.tool;
  drawn = null;
  if (button.dataset.do === "undo") undo();
  if (button.dataset.do === "clear") {
    marks = [];
    send();
  }
  show();
});
size.addEventListener("input", draw);

window.addEventListener("marker", (event) => {
  if (event.detail.place === props.place) value = event.detail.value;
});
watch("scene", load);
size.value = 20;
root.querySelector("[data-tool=point]").hidden = props.place === "found"; // a point says nothing about a mask
load();
