// The study page: its keys, the list of findings, and a word when a newer result is there.
import { emphasise, toggleAll, toggleOne, toggleOrgans } from "./marks.js";
import { listen, onKeys } from "./page.js";

const { study, analysis, final, state } = document.body.dataset;
/** Unfinished: show each step at once. Finished: what somebody reads does not change under their eyes, they are told. */
async function check() {
  const { analysis: latest } = await fetch(`/api/studies/${study}`)
    .then((answer) => (answer.ok ? answer.json() : {}))
    .catch(() => ({})); // left meanwhile
  if (latest && (latest.analysisId !== analysis || latest.status !== "completed")) {
    document.getElementById("newer").hidden = false;
  }
}

/** What came between the page and the connection was not heard: look once, and reload if there is news. */
async function catchUp() {
  const text = await fetch(location.href)
    .then((answer) => (answer.ok ? answer.text() : ""))
    .catch(() => ""); // left meanwhile
  const there = new DOMParser().parseFromString(text, "text/html").body.dataset;
  if (there.state && there.state !== state) location.reload();
}

listen((kind, ids) => {
  if (kind === "hello") return final === "no" ? catchUp() : check();
  if (kind !== "resync" && ids.study !== study && ids.analysis !== analysis) return;
  if (final === "no") location.reload();
  else check();
});

const keys = {
  b: toggleAll,
  a: toggleOrgans,
  Escape: () => emphasise(null),
  u: () => (location.href = "/"),
  r: () => location.reload(),
};
for (let n = 1; n <= 9; n += 1) keys[n] = () => toggleOne(n);

// Before anything is waited for: a key that is pressed at once counts; those of the stack join when it is there.
onKeys(keys);

/** Slices, findings and windows by key; without it links lead there, as without scripts. */
function use(stack) {
  /** A key of the stack; what scrolls by keys itself (the panel, when it has the focus) keeps them. */
  const through = (by) => (event) => (event.target.matches(".panel") ? false : stack.move(by));
  Object.assign(keys, {
    ArrowUp: through(-1),
    ArrowDown: through(1),
    PageUp: through(-10),
    PageDown: through(10),
    Home: through(-Infinity),
    End: through(Infinity),
    // Brackets need AltGr on many keyboards, and so cannot be had there.
    ArrowLeft: (event) => (event.shiftKey ? stack.stepSeries(-1) : stack.stepStudy(-1)),
    ArrowRight: (event) => (event.shiftKey ? stack.stepSeries(1) : stack.stepStudy(1)),
    "[": () => stack.stepSeries(-1),
    "]": () => stack.stepSeries(1),
    n: () => stack.nextFinding(1),
    p: () => stack.nextFinding(-1),
    l: () => stack.toWindow("lung"),
    m: () => stack.toWindow("mediastinum"),
    o: () => stack.toWindow("bone"),
    i: () => stack.toWindow(""),
  });
  for (const item of document.querySelectorAll(".finding-list li")) {
    item.addEventListener("click", (event) => {
      const link = event.target.closest("a");
      if (event.target.closest("label, details") || (link && !link.matches(".jump"))) return;
      if (link) event.preventDefault();
      if (!getSelection().toString()) stack.toFinding(Number(item.dataset.finding));
    });
  }
}

if (document.getElementById("pixels")) {
  import("./stack.js").then(use, () => {
    // Not loaded: the page is being left, or the server is gone.
    const broken = document.getElementById("broken");
    broken.textContent = "The keys of the slices could not be loaded. Reload the page (r).";
    broken.hidden = false;
  });
}
