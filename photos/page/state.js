// What all parts of the page share: the state that the server sent last, and what the user has selected.

export const state = { now: -1, out: "", classes: [], rule: [], network_rule: [] };
export const current = {
  name: "", // of the photo that is open
  scene: null, // its size and the number of its edits' last change
  edits: [], // of its mask, in pixels of the photo (drawing.py)
  cleared: [], // edits that "Clear annotation" removed, for Undo
  value: 1, // the class
  isAsking: false, // the network, about a click or a box
};

export const element = (id) => document.getElementById(id);
export const tool = () => document.querySelector("[name=tool]:checked").value;

export function say(text, kind = "") {
  [element("note").textContent, element("note").className] = [text, kind];
}

// Whether the network still looks, which changes the edits: says so
export function isWaiting() {
  if (current.isAsking) say("The network is still looking for the object: wait for its answer.");
  return current.isAsking;
}
