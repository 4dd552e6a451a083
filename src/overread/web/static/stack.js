// The stage: one picture in front, and the way through the series by wheel, keys, slider and findings.
import { applyMarks, emphasise, emphasisedNumber } from "./marks.js";
import { Pictures } from "./pictures.js";
import { Slider } from "./slider.js";
import { onNotches } from "./wheel.js";

const stage = document.getElementById("stage");
const { study, analysis, series, pictures, findings } = JSON.parse(stage.dataset.scroll);
const overlay = document.getElementById("overlay");
const broken = document.getElementById("broken");
const position = document.getElementById("position");
const said = document.getElementById("said");
const parameters = new URLSearchParams(location.search);
const windowLinks = [...document.querySelectorAll("[data-window]")];
const seriesLinks = [...document.querySelectorAll("[data-series]")];

const loader = new Pictures(pictures, ({ uid, frame }) => {
  const asked = new URLSearchParams({ instance: uid, frame, analysis });
  return `/studies/${encodeURIComponent(study)}/stage?${asked}`;
});
const slider = new Slider(
  document.getElementById("slider"),
  (place) => go(at.first - 1 + place),
  (number) => toFinding(number),
);

let img = document.getElementById("pixels");
// Index (from 0) of the picture that is asked for, and of that which is shown. They differ while it loads.
let target = Number(stage.dataset.image) - 1;
let shown = target;
let shownWindow = null;
// The window that the reader took; null: each series opens in its own.
let chosen = windowLinks.some((link) => link.dataset.window === parameters.get("window")) ? parameters.get("window") : null;
// What a finding is best seen in, where the reader took no window.
let suggested = null;
let at = null;
let step = 1;
let busy = false;

const seriesOf = (index) => series.find((s) => index + 1 >= s.first && index + 1 < s.first + s.count);
const windowNow = () => (at.ct ? (chosen ?? suggested ?? at.window) : "");

/** The picture has square pixels, the marks are in stored ones: where those are not square, stretch both alike. */
function stretch() {
  const view = document.getElementById("view");
  if (!view || !img.naturalWidth) return;
  const [width, height] = [Number(view.dataset.columns), Number(view.dataset.rows)];
  const by = (img.naturalHeight * width) / (img.naturalWidth * height);
  const factor = Math.abs(by - 1) < 0.01 ? 1 : by;
  view.setAttribute("viewBox", `0 0 ${width} ${height * factor}`);
  document.getElementById("boxes").setAttribute("transform", `scale(1 ${factor})`);
}

function cover(markup) {
  // Ours, escaped by the server; it holds no script, and the page's policy would not run one.
  overlay.innerHTML = markup;
  stretch();
  applyMarks();
}

function say(trouble) {
  broken.textContent = trouble;
  broken.hidden = false;
}

async function complain() {
  const answer = await fetch(loader.address(shown, shownWindow)).catch(() => null);
  const body = answer && !answer.ok ? await answer.json().catch(() => null) : null;
  say(body?.error ?? "This image cannot be shown.");
}

/** Bring what is asked for to the front; at most one picture is under way, so that fast scrolling shows what it can. */
async function run() {
  if (busy) return;
  busy = true;
  while (shown !== target || shownWindow !== windowNow()) {
    const [index, window] = [target, windowNow()];
    loader.held = index;
    const waits = setTimeout(() => (stage.dataset.state = "loading"), 150);
    const next = await loader.image(index, window).catch(() => null);
    clearTimeout(waits);
    if (!next && index !== target) continue;
    delete stage.dataset.state;
    [shown, shownWindow] = [index, window];
    present(index, next);
  }
  busy = false;
  loader.held = null;
  loader.pump();
}

function present(index, next) {
  broken.hidden = true;
  const fresh = next ?? new Image();
  if (fresh !== img) {
    fresh.id = "pixels";
    fresh.alt = pictures[index].text;
    fresh.draggable = false;
    img.replaceWith(fresh);
    img.removeAttribute("id");
    img = fresh;
  }
  if (!next) complain();
  position.textContent = pictures[index].text;
  const markup = loader.overlayNow(index);
  if (markup !== null) cover(markup);
  else {
    overlay.replaceChildren();
    loader.overlay(index).then(
      (text) => shown === index && cover(text),
      () => shown === index && target === index && say("What the AI marked on this image could not be loaded."),
    );
  }
  settle();
}

let settled = null;
/** The address, the links and the spoken word follow when one stops. */
function settle() {
  clearTimeout(settled);
  settled = setTimeout(() => {
    parameters.set("image", shown + 1);
    if (chosen === null) parameters.delete("window");
    else parameters.set("window", chosen);
    history.replaceState(null, "", `?${parameters}`);
    for (const [rel, by] of [["prev", -1], ["next", 1]]) {
      const link = document.querySelector(`[rel=${rel}]`);
      link.hidden = shown + by < 0 || shown + by >= pictures.length;
      link.search = `?${new URLSearchParams({ ...Object.fromEntries(parameters), image: shown + 1 + by })}`;
    }
    for (const link of windowLinks) link.search = `?image=${shown + 1}&window=${link.dataset.window}`;
    said.textContent = pictures[shown].text;
  }, 150);
}

function choose(link, on) {
  if (on) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
}

function enter(next) {
  if (at === next) return;
  if (at && at.window !== next.window) suggested = null;
  at = next;
  const inside = findings.filter((f) => f.at >= at.first && f.at < at.first + at.count);
  slider.reset(
    at.count,
    inside.map((f) => ({
      finding: f.number,
      severity: f.severity,
      from: (f.span ?? [f.at])[0] - at.first,
      to: (f.span ?? [f.at]).at(-1) - at.first,
      title: `${f.number} ${f.name}`,
    })),
  );
  stage.classList.toggle("stacked", at.count > 1);
  seriesLinks.forEach((link) => choose(link, series[link.dataset.series] === at));
  document.getElementById("windows").hidden = !at.ct;
}

/** To a picture by its index (from 0) in the study. */
export function go(index) {
  const next = Math.min(pictures.length - 1, Math.max(0, index));
  if (next !== target) step = next > target ? 1 : -1;
  target = next;
  enter(seriesOf(target));
  const window = windowNow();
  for (const link of windowLinks) choose(link, link.dataset.window === window);
  slider.move(target - (at.first - 1), pictures[target].text);
  run();
  loader.ahead(target, step, at.first - 1, at.first - 2 + at.count, window);
}

/** Within the series; false where it has but one picture, so that the key does what it does elsewhere. */
export function move(by) {
  if (at.count < 2) return false;
  const first = at.first - 1;
  return go(Math.min(first + at.count - 1, Math.max(first, target + by)));
}

export const stepStudy = (by) => go(target + by);

/** To a finding by its number, emphasised. */
export function toFinding(number) {
  const finding = findings.find((f) => f.number === number);
  if (!finding) return false;
  emphasise(number);
  suggested = finding.window;
  return go(finding.at - 1);
}

export function nextFinding(by) {
  if (!findings.length) return false;
  const now = findings.findIndex((f) => f.number === emphasisedNumber());
  const next = now < 0 ? (by > 0 ? 0 : findings.length - 1) : (now + by + findings.length) % findings.length;
  return toFinding(findings[next].number);
}

/** To another series: the same place in the body where both have one, else where it opens. */
export function toSeries(number) {
  const next = series[number];
  if (!next || next === at) return;
  const { place } = pictures[target];
  let index = next.start - 1;
  if (place !== null && at.axis && next.axis === at.axis) {
    for (let i = next.first - 1; i < next.first - 1 + next.count; i += 1) {
      const other = pictures[i].place;
      if (other !== null && Math.abs(other - place) < Math.abs((pictures[index].place ?? Infinity) - place)) index = i;
    }
  }
  go(index);
}

export const stepSeries = (by) => toSeries(series.indexOf(at) + by);

export function toWindow(name) {
  if (!at.ct) return false;
  chosen = name;
  return go(target);
}

onNotches(stage, (event, by) => (at.count < 2 || event.target.closest(".series") ? false : move(by)));

for (const link of seriesLinks) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    toSeries(Number(link.dataset.series));
  });
}
for (const link of windowLinks) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    toWindow(link.dataset.window);
  });
}
for (const [rel, by] of [["prev", -1], ["next", 1]]) {
  document.querySelector(`[rel=${rel}]`).addEventListener("click", (event) => {
    event.preventDefault();
    stepStudy(by);
  });
}

enter(seriesOf(target));
shownWindow = windowNow();
if (img.complete && !img.naturalWidth) complain();
img.addEventListener("error", complain);
img.addEventListener("load", stretch);
stretch();
applyMarks();
go(target);
