// The audit trail by keyboard.
import { onKeys } from "./page.js";

const filters = document.getElementById("filters");
const rows = [...document.querySelectorAll(".trail tbody tr")];
let at = -1;

function select(index) {
  if (!rows.length) return;
  rows[at]?.classList.remove("selected");
  at = Math.min(rows.length - 1, Math.max(0, index));
  rows[at].classList.add("selected");
  rows[at].scrollIntoView({ block: "nearest" });
}

function open(row) {
  if (row?.dataset.href) location.href = row.dataset.href;
}

const follow = (id) => () => document.getElementById(id)?.click();

document.querySelector(".trail")?.addEventListener("click", (event) => {
  const row = event.target.closest("tbody tr");
  if (row && !event.target.closest("a, button") && !getSelection().toString()) open(row);
});
filters.addEventListener("change", (event) => event.target.matches("select") && filters.requestSubmit());
filters.addEventListener("submit", () => {
  // An empty filter stays out of the address.
  for (const field of filters.elements) if (field.name && !field.value) field.disabled = true;
});

onKeys({
  j: () => select(at + 1),
  ArrowDown: () => select(at + 1),
  k: () => select(at - 1),
  ArrowUp: () => select(at - 1),
  Enter: (event) => (event.target.closest("a, button, summary") ? false : open(rows[at])),
  "/": () => filters.elements.actor.select(),
  n: follow("older"),
  g: () => (document.getElementById("newest") ? follow("newest")() : select(0)),
  x: () => (location.href = "/admin/audit"),
});
