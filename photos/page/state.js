// What all parts of the page share: the state that the server sent last, and what the user has selected.

export const state = { now: -1, out: "", classes: [], rule: [], network_rule: [], done: { number: 0, note: "" } };
export const current = {
  name: "", // of the photo that is open
  scene: null, // its size
  picture: null, // it, as an image
  layer: null, // its mask, as an image
  pending: [], // edits that the mask does not show yet, in pixels of the photo (drawing.py)
  value: 1, // the class
};

export const element = (id) => document.getElementById(id);
export const tool = () => document.querySelector("[name=tool]:checked").value;
export const className = () => (state.classes.find(([value]) => value === current.value) || [0, "object"])[1];
export const plural = (count) => `${count} photo${count === 1 ? "" : "s"}`;

export function say(text, kind = "") {
  [element("note").textContent, element("note").className] = [text, kind];
}
