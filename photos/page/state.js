// What all parts of the page share: the state that the server sent last, and what the user has chosen.

export const state = { now: -1, out: "", classes: [], base: [], rule: [], own: [] };
export const current = {
  name: "", // of the photo that is open
  scene: null, // its size and the number of its marks' last change
  marks: [], // on it, in pixels of the photo (drawing.py)
  cleared: [], // marks that "Clear annotation" removed, for Undo
  value: 1, // the class
  isAsking: false, // the network, about a click or a box
};

export const element = (id) => document.getElementById(id);
export const tool = () => document.querySelector("[name=tool]:checked").value;

export function say(text, kind = "") {
  [element("note").textContent, element("note").className] = [text, kind];
}

// Whether the network still looks, which changes the marks: says so
export function isWaiting() {
  if (current.isAsking) say("The network is still looking for the object: wait for its answer.");
  return current.isAsking;
}
