// The wheel in notches: a mouse turns by about 100 pixels each, a touchpad sends many small steps.

const STEP = 40;

/** `act(event, by)` for each notch or more; false where the wheel is to do what it does elsewhere. */
export function onNotches(element, act) {
  let turned = 0;
  element.addEventListener(
    "wheel",
    (event) => {
      // With Ctrl it zooms the page.
      if (event.ctrlKey || act(event, 0) === false) return;
      event.preventDefault();
      if (event.deltaMode || Math.abs(event.deltaY) >= 50) {
        turned = 0;
        act(event, Math.sign(event.deltaY));
        return;
      }
      turned += event.deltaY;
      const notches = Math.trunc(turned / STEP);
      turned -= notches * STEP;
      if (notches) act(event, notches);
    },
    { passive: false },
  );
}
