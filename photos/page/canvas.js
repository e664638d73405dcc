// The canvas: the photo that is open, its mask and edits, and drawing with pointer and keyboard.
//
// What is drawn becomes an event of the canvas: "edit", or "ask" for what the network is to outline.

import { current, element, say, state, tool } from "./state.js";

const LEAST_DRAG = 5; // pixels of the screen; a shorter drag is the first of two clicks
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export const canvas = document.querySelector("canvas");
const context = canvas.getContext("2d");
const paint = document.createElement("canvas"), pen = paint.getContext("2d"); // the layer and the edits, opaque
const fingers = new Map();
let drawn = null; // the edit that is being drawn
let cross = null; // the place of the keyboard's cross, or of the pointer
let pressed = null; // the pointer's place on the screen when it was pressed
let view = { zoom: 1, x: 0, y: 0 }; // the place of the photo in the middle

const radius = () => (element("size").value / 1000) * Math.max(current.scene.width, current.scene.height);
const limit = (number, most) => Math.round(Math.min(Math.max(number, 0), most) * 10) / 10;
const inside = (x, y) => [limit(x, current.scene.width - 1), limit(y, current.scene.height - 1)];
const scaleOf = () => Math.min(canvas.width / current.scene.width, canvas.height / current.scene.height) * view.zoom;

function place(event) {
  const sharp = canvas.width / canvas.clientWidth, scale = scaleOf();
  const x = (event.offsetX * sharp - canvas.width / 2) / scale + view.x;
  const y = (event.offsetY * sharp - canvas.height / 2) / scale + view.y;
  return tool() === "box" ? [limit(x, current.scene.width), limit(y, current.scene.height)] : inside(x, y);
}

// The whole of a photo that is opened
export function fit() {
  view = { zoom: 1, x: current.scene.width / 2, y: current.scene.height / 2 };
}

export function zoom(by, [x, y] = [view.x, view.y]) {
  if (!current.scene) return;
  const before = view.zoom;
  view.zoom = Math.min(Math.max(before * by, 1), 16);
  const share = 1 - before / view.zoom;
  move((view.x - x) * share, (view.y - y) * share);
}

function move(dx, dy) {
  const edge = (middle, side) => Math.min(Math.max(middle, side / 2 / view.zoom), side - side / 2 / view.zoom);
  [view.x, view.y] = [edge(view.x - dx, current.scene.width), edge(view.y - dy, current.scene.height)];
  draw();
}

function trace(edit) {
  const isLine = ["brush", "eraser"].includes(edit.tool) && edit.points.length > 1;
  pen.globalCompositeOperation = edit.tool === "eraser" || !edit.value ? "destination-out" : "source-over";
  pen.fillStyle = pen.strokeStyle = (state.classes.find(([value]) => value === edit.value) || [])[2] || "#000";
  pen.lineWidth = 2 * edit.radius;
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  if (edit.tool === "box") pen.rect(...edit.points[0], ...edit.points[1].map((end, i) => end - edit.points[0][i]));
  else if (isLine || edit.tool === "outline") edit.points.forEach(([x, y]) => pen.lineTo(x, y));
  else
    for (const [x, y] of edit.points) {
      pen.moveTo(x, y);
      pen.arc(x, y, edit.radius, 0, 2 * Math.PI);
    }
  if (isLine) pen.stroke();
  else pen.fill();
}

function ring([x, y], length, scale) {
  for (const [colour, width] of [["#000", 3], ["#fff", 1.5]]) {
    context.beginPath();
    context.strokeStyle = colour;
    context.lineWidth = width / scale;
    context.arc(x, y, length, 0, 2 * Math.PI);
    context.stroke();
  }
}

export function draw() {
  const sharp = window.devicePixelRatio;
  canvas.width = paint.width = canvas.clientWidth * sharp;
  canvas.height = paint.height = canvas.clientHeight * sharp;
  if (!current.scene || !canvas.width) return;
  const scale = scaleOf(), all = drawn ? [...current.pending, drawn] : current.pending;
  for (const one of [pen, context]) {
    one.setTransform(scale, 0, 0, scale, canvas.width / 2 - view.x * scale, canvas.height / 2 - view.y * scale);
    one.rect(0, 0, current.scene.width, current.scene.height);
    one.clip();
  }
  pen.imageSmoothingEnabled = false;
  if (current.layer) pen.drawImage(current.layer, 0, 0, current.scene.width, current.scene.height);
  all.forEach(trace);
  if (current.picture) context.drawImage(current.picture, 0, 0, current.scene.width, current.scene.height);
  context.save();
  context.resetTransform();
  context.globalAlpha = Number(element("opacity").value);
  context.drawImage(paint, 0, 0);
  context.restore();
  if (cross) ring(cross, ["box", "click"].includes(tool()) ? 4 / scale : Math.max(radius(), 2 / scale), scale);
}

const tell = (kind, detail) => canvas.dispatchEvent(new CustomEvent(kind, { detail }));

function begin([x, y], event) {
  const value = current.value;
  if (tool() === "click") tell("ask", { action: "click", x, y, value: event.shiftKey ? 0 : value });
  else drawn = { tool: tool(), value, radius: radius(), points: tool() === "box" ? [[x, y], [x, y]] : [[x, y]] };
  if (drawn && drawn.tool === "point") end();
}

function extend(point) {
  if (drawn && drawn.tool === "box") drawn.points[1] = point;
  else if (drawn) drawn.points.push(point);
}

function end() {
  const done = drawn;
  drawn = null;
  if (done.tool !== "box") return tell("edit", done);
  const [first, last] = done.points;
  if (Math.abs(first[0] - last[0]) < 1 || Math.abs(first[1] - last[1]) < 1)
    say("The box is empty: drag it around the object, or click two opposite corners.", "error");
  else tell("ask", { action: "box", points: done.points, value: done.value });
}

export function cancel() {
  drawn = null;
}

export function clearCross() {
  drawn = cross = null;
}

canvas.onpointerdown = (event) => {
  if (!current.scene) return; // the photo is being loaded
  event.preventDefault();
  canvas.focus();
  canvas.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, [event.clientX, event.clientY]);
  cross = place(event);
  if (fingers.size > 1 || event.button) drawn = null; // two fingers, or another button, move the photo
  else if (drawn) extend(cross);
  else {
    pressed = [event.clientX, event.clientY];
    begin(cross, event);
  }
  draw();
};

canvas.onpointermove = (event) => {
  if (!current.scene) return;
  const before = fingers.get(event.pointerId), now = [event.clientX, event.clientY];
  if (before) fingers.set(event.pointerId, now);
  if (before && (fingers.size > 1 || event.buttons > 1)) {
    const scale = ((scaleOf() * canvas.clientWidth) / canvas.width) * fingers.size;
    move((now[0] - before[0]) / scale, (now[1] - before[1]) / scale);
    const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    const far = ([x, y]) => Math.hypot(x - other[0], y - other[1]);
    if (other) zoom(far(now) / Math.max(far(before), 1));
    return;
  }
  const steps = event.getCoalescedEvents();
  for (const one of steps.length ? steps : [event]) {
    cross = place(one);
    extend(cross);
  }
  draw();
};

canvas.onpointerup = canvas.onpointercancel = (event) => {
  fingers.delete(event.pointerId);
  const moved = pressed && Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]);
  const isFirstClick = drawn && drawn.tool === "box" && pressed && moved < LEAST_DRAG;
  pressed = null;
  if (event.type === "pointercancel") drawn = null;
  else if (drawn && !isFirstClick) end();
  draw();
};
canvas.oncontextmenu = (event) => event.preventDefault();
canvas.onpointerleave = () => {
  if (!drawn) cross = null;
  draw();
};
canvas.onwheel = (event) => {
  if (!current.scene) return;
  event.preventDefault();
  zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, place(event));
};

export function drawByKey(event) {
  if (!current.scene) return false;
  cross = cross || [view.x, view.y];
  if (event.key in MOVES) {
    const far = Math.max(current.scene.width, current.scene.height) / (event.shiftKey ? 200 : 50) / view.zoom;
    cross = inside(cross[0] + far * MOVES[event.key][0], cross[1] + far * MOVES[event.key][1]);
    extend(cross);
  } else if (event.key === "Escape") drawn = null;
  else if (![" ", "Enter"].includes(event.key)) return false;
  else if (drawn) end();
  else begin(cross, event);
  draw();
  return true;
}
