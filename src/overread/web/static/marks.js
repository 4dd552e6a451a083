// What is marked on the picture: on and off, each and all, and the finding that one looks at, on every slice.

const hidden = new Set();
const hiddenOrgans = new Set();
let emphasised = null;

const checks = (kind) => [...document.querySelectorAll(`.one-${kind}`)];
const all = document.getElementById("all-boxes");
const allOrgans = document.getElementById("all-anatomy");

/** Again after the picture changed. */
export function applyMarks() {
  for (const box of document.querySelectorAll(".box")) {
    const { finding } = box.dataset;
    box.classList.toggle("off", hidden.has(finding));
    box.classList.toggle("bright", finding === emphasised);
  }
  for (const path of document.querySelectorAll(".anatomy")) {
    path.classList.toggle("off", hiddenOrgans.has(path.dataset.segment));
  }
  for (const item of document.querySelectorAll(".finding-list li")) {
    if (item.dataset.finding === emphasised) item.setAttribute("aria-current", "true");
    else item.removeAttribute("aria-current");
  }
}

function set(store, key, visible) {
  if (visible) store.delete(key);
  else store.add(key);
}

/** Boxes in a list that follow one "all" box, whose values are `data-<key>`. */
function wire(kind, key, master, store) {
  const each = checks(kind);
  const follow = () => {
    const on = each.filter((check) => check.checked).length;
    if (master) {
      master.checked = on > 0;
      master.indeterminate = on > 0 && on < each.length;
    }
    applyMarks();
  };
  for (const check of each) {
    check.addEventListener("change", () => {
      set(store, check.dataset[key], check.checked);
      follow();
    });
  }
  master?.addEventListener("change", () => {
    for (const check of each) {
      check.checked = master.checked;
      set(store, check.dataset[key], check.checked);
    }
    follow();
  });
}

wire("box", "finding", all, hidden);
wire("anatomy", "segment", allOrgans, hiddenOrgans);

// A mark under the pointer shows its whole label; a click on it finds it in the list.
const overlay = document.getElementById("overlay");
overlay?.addEventListener("pointerover", (event) => {
  const over = event.target.closest(".box")?.dataset.finding;
  for (const box of document.querySelectorAll(".box")) {
    const { finding } = box.dataset;
    box.classList.toggle("bright", finding === emphasised || finding === over);
  }
});
overlay?.addEventListener("pointerout", applyMarks);
overlay?.addEventListener("click", (event) => {
  const mark = event.target.closest(".box");
  if (mark) emphasise(mark.dataset.finding);
});

for (const item of document.querySelectorAll(".finding-list li")) {
  const bright = (on) => () => {
    for (const shape of document.querySelectorAll(`.box[data-finding="${item.dataset.finding}"]`)) {
      shape.classList.toggle("bright", on || item.dataset.finding === emphasised);
    }
  };
  item.addEventListener("mouseenter", bright(true));
  item.addEventListener("mouseleave", bright(false));
}

/** The finding that one looks at, by its number; null for none. */
export function emphasise(number) {
  emphasised = number === null ? null : String(number);
  applyMarks();
  document.querySelector(".finding-list li[aria-current]")?.scrollIntoView({ block: "nearest" });
}

export const emphasisedNumber = () => (emphasised === null ? null : Number(emphasised));
export const toggleAll = () => all?.click();
export const toggleOrgans = () => allOrgans?.click();
export const toggleOne = (number) => document.querySelector(`.one-box[data-finding="${number}"]`)?.click();
