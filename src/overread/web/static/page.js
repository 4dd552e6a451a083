// What every page does: the sheet of keys, local times, waiting times, and the live connection.

export function openHelp() {
  const help = document.getElementById("help");
  if (help && !help.open) help.showModal();
}

for (const button of document.querySelectorAll("[data-open=help]")) button.addEventListener("click", openHelp);

/** Run `actions[key]` for a key pressed outside of fields and dialogs. */
export function onKeys(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest("input:not([type=checkbox]), select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const action = event.key === "?" ? openHelp : actions[event.key];
    if (action && action(event) !== false) event.preventDefault();
  });
}

const two = (n) => String(n).padStart(2, "0");

/** The same words as `web.words.duration`. */
export function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${two(Math.floor((s % 3600) / 60))}`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** Times of the server (UTC) as local ones; waiting times as of now. */
export function tick(root = document) {
  for (const time of root.querySelectorAll("time.local")) {
    const t = new Date(time.dateTime);
    time.textContent = `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ${two(t.getHours())}:${two(t.getMinutes())}`;
  }
  for (const time of root.querySelectorAll("time.since")) time.textContent = duration((Date.now() - new Date(time.dateTime)) / 1000);
}

/** Listen to /api/events. `onChange(kind, ids)`; kind is "hello" at each (re)connection, "resync" when some may be lost. */
export function listen(onChange) {
  const light = document.getElementById("live");
  const show = (state, text) => {
    light.dataset.state = state;
    light.textContent = text;
  };
  // What does not work just now, in sentences of the server's.
  const place = document.getElementById("condition");
  const note = (notes = []) => {
    if (!place) return;
    if ([...place.children].map((p) => p.textContent).join("\n") === notes.join("\n")) return;
    place.replaceChildren(...notes.map((text) => Object.assign(document.createElement("p"), { textContent: text })));
    place.hidden = notes.length === 0;
  };
  let source;
  let heard;
  const connect = () => {
    if (source) source.close();
    heard = Date.now();
    source = new EventSource("/api/events");
    source.addEventListener("beat", (event) => {
      heard = Date.now();
      note(JSON.parse(event.data).notes);
    });
    for (const kind of ["hello", "resync", "analysis", "study"]) {
      source.addEventListener(kind, (event) => {
        heard = Date.now();
        show("live", "live");
        const data = JSON.parse(event.data);
        if (kind === "hello") note(data.notes);
        onChange(kind, data);
      });
    }
    source.addEventListener("unavailable", () => show("lost", "the database does not answer; trying again…"));
    source.onerror = async () => {
      show("lost", "not connected; trying again…");
      if (source.readyState !== EventSource.CLOSED) return;
      // The server answered with an error: the session may be over, else try again later.
      const answer = await fetch("/api/studies?limit=1&fields=id").catch(() => null);
      if (answer && answer.status === 401) location.reload();
      else setTimeout(connect, 4000);
    };
  };
  // A dead line says nothing by itself: no beat for three of them is taken for death.
  const lost = () => show("lost", "not connected; trying again…");
  setInterval(() => {
    if (Date.now() - heard < 50000) return;
    lost();
    connect();
  }, 5000);
  addEventListener("offline", lost);
  addEventListener("online", connect);
  addEventListener("pagehide", () => source && source.close());
  addEventListener("pageshow", (event) => event.persisted && connect());
  connect();
}

tick();
