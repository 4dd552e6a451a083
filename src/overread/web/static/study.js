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

/** Slices, findings and windows by key; what is pressed before they are loaded waits for them. */
function use(loaded) {
  const act = (what) => () => void loaded.then(what);
  /** A key of the stack; what scrolls by keys itself (the panel, when it has the focus) keeps them. */
  const through = (by) => (event) => (event.target.matches(".panel") ? false : void loaded.then((stack) => stack.move(by)));
  const side = (by) => (event) =>
    void loaded.then((stack) => (event.shiftKey ? stack.stepSeries(by) : stack.stepStudy(by)));
  Object.assign(keys, {
    ArrowUp: through(-1),
    ArrowDown: through(1),
    PageUp: through(-10),
    PageDown: through(10),
    Home: through(-Infinity),
    End: through(Infinity),
    // Brackets need AltGr on many keyboards, and so cannot be had there.
    ArrowLeft: side(-1),
    ArrowRight: side(1),
    "[": act((stack) => stack.stepSeries(-1)),
    "]": act((stack) => stack.stepSeries(1)),
    n: act((stack) => stack.nextFinding(1)),
    p: act((stack) => stack.nextFinding(-1)),
    l: act((stack) => stack.toWindow("lung")),
    m: act((stack) => stack.toWindow("mediastinum")),
    o: act((stack) => stack.toWindow("bone")),
    i: act((stack) => stack.toWindow("")),
  });
  for (const item of document.querySelectorAll(".finding-list li")) {
    item.addEventListener("click", (event) => {
      const link = event.target.closest("a");
      if (event.target.closest("label, details") || (link && !link.matches(".jump"))) return;
      if (link) event.preventDefault();
      if (!getSelection().toString()) loaded.then((stack) => stack.toFinding(Number(item.dataset.finding)));
    });
  }
}

if (document.getElementById("pixels")) {
  const loaded = import("./stack.js");
  use(loaded);
  loaded.catch(() => {
    // The page is being left, or the server is gone.
    const broken = document.getElementById("broken");
    broken.textContent = "The keys of the slices could not be loaded. Reload the page (r).";
    broken.hidden = false;
  });
}
onKeys(keys);
