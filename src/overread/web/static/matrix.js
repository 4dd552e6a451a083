// The matrix of switches by keyboard: arrows go from cell to cell, Enter opens one (it is a link).
import { onKeys } from "./page.js";

const grid = [...document.querySelectorAll(".matrix tbody tr")]
  .map((row) => [...row.querySelectorAll("a.switch")])
  .filter((row) => row.length);

function step(rows, columns) {
  return () => {
    const y = grid.findIndex((row) => row.includes(document.activeElement));
    if (y < 0) {
      (document.querySelector("a.switch[aria-current]") ?? grid[0]?.[0])?.focus();
      return true;
    }
    const x = grid[y].indexOf(document.activeElement);
    const row = grid[Math.min(grid.length - 1, Math.max(0, y + rows))];
    row[Math.min(row.length - 1, Math.max(0, x + columns))].focus();
    return true;
  };
}

onKeys({ ArrowUp: step(-1, 0), ArrowDown: step(1, 0), ArrowLeft: step(0, -1), ArrowRight: step(0, 1) });

// Where there is a form, one wants to write the reason. The browser goes to the address's fragment first, and that takes
// the focus away: so after it.
const reason = document.querySelector(".change input[name=reason]");
if (reason && !document.querySelector(".done")) addEventListener("load", () => setTimeout(() => reason.focus()));
