// The rail beside a stack of slices: where one is, where the findings are, and a handle to drag.

/** `onMove(place)` with the place from 0 in the series; `onFinding(number)` for a click on a tick. */
export class Slider {
  constructor(element, onMove, onFinding) {
    this.element = element;
    this.thumb = element.querySelector(".thumb");
    this.rail = element.querySelector(".rail");
    this.count = 1;
    const drag = (event) => {
      const { top, height } = this.rail.getBoundingClientRect();
      const share = Math.min(1, Math.max(0, (event.clientY - top) / height));
      onMove(Math.round(share * (this.count - 1)));
    };
    element.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      const tick = event.target.closest(".tick");
      if (tick) return onFinding(Number(tick.dataset.finding));
      element.setPointerCapture(event.pointerId);
      drag(event);
    });
    element.addEventListener("pointermove", (event) => element.hasPointerCapture(event.pointerId) && drag(event));
  }

  /** Another series: `count` pictures, `ticks` of {finding, severity, from, to, title} with places from 0. */
  reset(count, ticks) {
    this.count = count;
    this.element.hidden = count < 2;
    this.element.setAttribute("aria-valuemax", count);
    const share = (place) => (count > 1 ? (100 * place) / (count - 1) : 0);
    this.rail.replaceChildren(
      ...ticks.map(({ finding, severity, from, to, title }) => {
        const tick = document.createElement("span");
        tick.className = `tick ${severity}`;
        tick.dataset.finding = finding;
        tick.title = title;
        tick.style.top = `${share(from)}%`;
        tick.style.height = `${share(to) - share(from)}%`;
        return tick;
      }),
    );
  }

  move(place, text) {
    this.thumb.style.setProperty("--at", this.count > 1 ? place / (this.count - 1) : 0);
    this.element.setAttribute("aria-valuenow", place + 1);
    this.element.setAttribute("aria-valuetext", text);
  }
}
