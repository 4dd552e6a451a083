// The study page: boxes on and off, images by arrow keys, and a word when a newer result is there.
import { listen, onKeys } from "./page.js";

const { study, analysis, final } = document.body.dataset;
const all = document.getElementById("all-boxes");
const one = (number) => document.querySelector(`.one-box[data-finding="${number}"]`);
const shapes = (number) => document.querySelectorAll(`.box[data-finding="${number}"]`);

function show(number, visible) {
  for (const shape of shapes(number)) shape.classList.toggle("off", !visible);
}

function showAll(visible) {
  for (const check of document.querySelectorAll(".one-box")) {
    check.checked = visible;
    show(check.dataset.finding, visible);
  }
}

for (const check of document.querySelectorAll(".one-box")) {
  check.addEventListener("change", () => {
    show(check.dataset.finding, check.checked);
    if (all) all.checked = [...document.querySelectorAll(".one-box")].some((c) => c.checked);
  });
}
if (all) all.addEventListener("change", () => showAll(all.checked));

for (const item of document.querySelectorAll(".finding-list li")) {
  const bright = (on) => () => {
    for (const shape of shapes(item.dataset.finding)) shape.classList.toggle("bright", on);
  };
  item.addEventListener("mouseenter", bright(true));
  item.addEventListener("mouseleave", bright(false));
}

const pixels = document.getElementById("pixels");
if (pixels) {
  const complain = async () => {
    const note = document.getElementById("broken");
    const answer = await fetch(pixels.getAttribute("href")).catch(() => null);
    const body = answer && !answer.ok ? await answer.json().catch(() => null) : null;
    note.textContent = body ? body.error : "This image cannot be shown.";
    note.hidden = false;
  };
  pixels.addEventListener("error", complain);
  // It may have failed before this script ran.
  const probe = new Image();
  probe.addEventListener("error", complain);
  // The picture has square pixels, the boxes are in stored ones: where those are not square, stretch both alike.
  probe.addEventListener("load", () => {
    const view = document.getElementById("view");
    const { width, height } = view.viewBox.baseVal;
    const stretch = (probe.naturalHeight * width) / (probe.naturalWidth * height);
    if (Math.abs(stretch - 1) < 0.01) return;
    view.setAttribute("viewBox", `0 0 ${width} ${height * stretch}`);
    pixels.setAttribute("height", height * stretch);
    document.getElementById("boxes").setAttribute("transform", `scale(1 ${stretch})`);
  });
  probe.src = pixels.getAttribute("href");
}

function follow(rel) {
  const link = document.querySelector(`a[rel=${rel}]`);
  if (link) location.href = link.href;
}

const keys = {
  b: () => all && all.click(),
  ArrowLeft: () => follow("prev"),
  ArrowRight: () => follow("next"),
  u: () => (location.href = "/"),
  r: () => location.reload(),
};
for (let n = 1; n <= 9; n += 1) keys[n] = () => one(n)?.click();
onKeys(keys);

/** Unfinished: show each step at once. Finished: what somebody reads does not change under their eyes, they are told. */
async function check() {
  const answer = await fetch(`/api/studies/${study}`).catch(() => null);
  if (!answer || !answer.ok) return;
  const { analysis: latest } = await answer.json();
  if (latest && (latest.analysisId !== analysis || latest.status !== "completed")) {
    document.getElementById("newer").hidden = false;
  }
}

listen((kind, ids) => {
  if (kind === "hello") return;
  if (kind !== "resync" && ids.study !== study && ids.analysis !== analysis) return;
  if (final === "no") location.reload();
  else check();
});
