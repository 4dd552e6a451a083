// The worklist: live, and wholly usable by keyboard.
import { listen, onKeys, tick } from "./page.js";

const list = document.getElementById("list");
const filters = document.getElementById("filters");
const search = filters.elements.q;
const news = document.getElementById("news");
const clear = document.getElementById("clear");
const title = document.title;
// What is searched for belongs to this entry of the history, not to its address: it may be a patient's name.
let text = history.state?.q ?? search.value.trim();
let selected = null;
let timer = null;
let running = false;
let again = false;

const rows = () => [...list.querySelectorAll("tbody tr")];

function select(row, scroll = true) {
  for (const other of rows()) other.classList.toggle("selected", other === row);
  selected = row ? row.id : null;
  if (row && scroll) row.scrollIntoView({ block: "nearest" });
}

function move(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.id === selected);
  select(all[Math.min(all.length - 1, Math.max(0, at < 0 ? (step > 0 ? 0 : all.length - 1) : at + step))]);
}

function open(row) {
  if (row) location.href = row.dataset.href;
}

/** The number beside "Repeat suggested" is that of the list which came last. */
function count() {
  const fresh = document.getElementById("repeat-count")?.dataset.count;
  const shown = document.querySelector("#repeats .count");
  if (!shown || fresh === undefined || shown.dataset.count === fresh) return;
  if (Number(fresh) > Number(shown.dataset.count)) news.textContent = `${fresh} studies with a suggested repeat`;
  shown.dataset.count = shown.textContent = fresh;
}

function badge() {
  const critical = rows().filter((row) => row.dataset.urgency === "critical").length;
  document.title = critical ? `(${critical}) ${title}` : title;
}

async function refresh() {
  if (running) {
    again = true;
    return;
  }
  running = true;
  try {
    const asked = text
      ? { method: "POST", body: new URLSearchParams({ q: text }), headers: { Accept: "text/html" } }
      : { headers: { Accept: "text/html" } };
    const answer = await fetch(`/worklist/rows${list.dataset.query}`, asked);
    if (answer.redirected || answer.status === 401) return location.reload();
    if (!answer.ok) return;
    const before = new Set(rows().map((row) => row.id));
    const top = scrollY;
    // The fragment is ours and escaped by the server; it holds no script, and the page's policy would not run one.
    list.innerHTML = await answer.text();
    list.hidden = false;
    scrollTo(scrollX, top);
    const fresh = rows().filter((row) => !before.has(row.id));
    for (const row of fresh) row.classList.add("fresh");
    const pressing = fresh.filter((row) => row.dataset.urgency === "critical");
    if (fresh.length) news.textContent = `${fresh.length} new, ${pressing.length} of them critical`;
    select(document.getElementById(selected), false);
    tick(list);
    badge();
    count();
  } catch {
    // No network: the light in the bar says so, and the next event or connection brings the list.
    if (list.hidden) {
      text = search.value = "";
      list.hidden = false; // rather everything than nothing
    }
  } finally {
    running = false;
    if (again) {
      again = false;
      refresh();
    }
  }
}

/** Many events at once are one fetch. */
function soon() {
  clearTimeout(timer);
  timer = setTimeout(refresh, 120);
}

function toggleCritical() {
  filters.elements.priority.value = filters.elements.priority.value === "critical" ? "" : "critical";
  filters.requestSubmit();
}

list.addEventListener("click", (event) => {
  const row = event.target.closest("tbody tr");
  if (row && !event.target.closest("a, button, form") && !getSelection().toString()) open(row);
});
filters.addEventListener("change", (event) => event.target !== search && filters.requestSubmit());
/** Another list without leaving the page, so that the search stays out of every address. */
function show(query) {
  history.pushState({ q: text }, "", `/${query}`);
  list.dataset.query = query;
  clear.hidden = false;
  refresh();
}

filters.addEventListener("submit", (event) => {
  event.preventDefault();
  text = search.value.trim();
  // An empty filter stays out of the address, and the search always does.
  const pairs = [...new FormData(filters)].filter(([name, value]) => name !== "q" && value);
  const query = pairs.length ? `?${new URLSearchParams(pairs)}` : "";
  search.blur(); // the keys are the list's again
  if (text) show(query);
  else location.href = `/${query}`;
});
list.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!text) return;
  event.preventDefault();
  if (form.matches(".turn")) {
    show(new URL(form.action).search);
    scrollTo(0, 0);
    return;
  }
  // Retry and Cancel would lead back to the whole list.
  const body = new URLSearchParams(new FormData(form));
  const answer = await fetch(form.action, { method: "POST", body, redirect: "manual" });
  if (answer.type === "opaqueredirect") refresh();
  else form.submit(); // the page says what is wrong
});
addEventListener("popstate", () => location.reload());

onKeys({
  j: () => move(1),
  ArrowDown: () => move(1),
  k: () => move(-1),
  ArrowUp: () => move(-1),
  Enter: (event) => (event.target.closest("a, button, summary") ? false : open(document.getElementById(selected))),
  "/": () => search.select(),
  g: () => select(rows()[0]),
  c: toggleCritical,
  t: () => document.querySelector(".tabs a:not([aria-current])").click(),
  x: () => (location.href = list.dataset.query.includes("repeat=1") ? "/?repeat=1" : "/"),
});

if (text) {
  history.replaceState({ q: text }, "", `/${list.dataset.query}`);
  clear.hidden = false;
  if (search.value.trim() !== text) {
    search.value = text;
    list.hidden = true; // what the address alone shows is not what was asked for
    refresh();
  }
}
badge();
setInterval(() => tick(list), 15000);
listen(soon);
