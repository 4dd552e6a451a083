// A page's session ends when nobody uses the page. Keys, pointer and wheel are use; what scripts fetch is not.

const place = document.getElementById("session");
const idle = Number(place.dataset.idle) * 1000;
const token = document.querySelector("input[name=csrf_token]")?.value;
const SAY_EVERY = Math.min(60000, idle / 4);
const WARN_BEFORE = Math.min(60000, idle / 3);
let endsAt = Date.now() + idle;
let saidAt = Date.now();
let pending = false;
let timer = null;

function show(state) {
  place.dataset.state = state;
  place.hidden = state === "used";
  const minutes = place.dataset.minutes;
  place.querySelector("[data-text]").textContent =
    state === "ending"
      ? "Nobody has used this page for a while: the session ends in a minute. Press a key or move the pointer to stay."
      : `Nobody used the page for ${minutes} minutes, so the session ended. What is on the page may be out of date.`;
  const link = place.querySelector("a");
  link.hidden = state !== "ended";
  link.href = `/login?reason=idle&next=${encodeURIComponent(location.pathname + location.search + location.hash)}`;
}

function plan() {
  clearTimeout(timer);
  const left = endsAt - Date.now();
  if (left > WARN_BEFORE) timer = setTimeout(check, left - WARN_BEFORE);
  else timer = setTimeout(check, Math.max(1000, left + 500));
}

/** Another tab may have been used: the server knows. */
async function check() {
  const answer = await fetch("/api/auth/session", { cache: "no-store" }).catch(() => null);
  if (answer === null) return void (timer = setTimeout(check, 5000));
  if (answer.status === 401) return show("ended");
  if (answer.ok) endsAt = Date.now() + (await answer.json()).endsInSeconds * 1000;
  show(endsAt - Date.now() > WARN_BEFORE ? "used" : "ending");
  plan();
}

async function use() {
  const now = Date.now();
  if (pending || place.dataset.state === "ended" || (place.hidden && now - saidAt < SAY_EVERY)) return;
  pending = true;
  try {
    const answer = await fetch("/api/auth/session/used", { method: "POST", headers: { "X-CSRF-Token": token } });
    saidAt = Date.now();
    if (answer.status === 401) return show("ended");
    if (!answer.ok) return;
    endsAt = Date.now() + (await answer.json()).endsInSeconds * 1000;
    show("used");
    plan();
  } catch {
    // No network: the next key tries again.
  } finally {
    pending = false;
  }
}

for (const kind of ["keydown", "pointerdown", "pointermove", "wheel"]) addEventListener(kind, use, { passive: true });
addEventListener("visibilitychange", () => document.visibilityState === "visible" && check());
plan();
