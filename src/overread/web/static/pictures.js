// Pictures of a study and what lies over them, fetched ahead of where one looks and given up where one no longer does.

const PARALLEL = 4;
const AHEAD = 6;
const BEHIND = 2;
const KEEP = 160;

/** Loads `entries` ({src, uid, frame}); `overlayAddress(entry)` is that of the marks over a picture. */
export class Pictures {
  constructor(entries, overlayAddress) {
    this.entries = entries;
    this.overlayAddress = overlayAddress;
    this.images = new Map();
    this.overlays = new Map();
    this.wanted = [];
    this.running = 0;
    // The picture that one waits for; null while none is.
    this.held = null;
  }

  /** A picture (index from 0) in a window: resolves with a decoded image, rejects if it cannot be shown. */
  image(index, window) {
    const key = `${index} ${window}`;
    const known = this.images.get(key);
    if (known) {
      this.images.delete(key);
      this.images.set(key, known);
      return known.ready;
    }
    const img = new Image();
    const task = { index, done: false };
    // A decode whose source was taken away may never settle: giving up settles it here.
    const decoded = new Promise((resolve, reject) => {
      task.giveUp = () => {
        img.removeAttribute("src");
        reject(new Error("given up"));
      };
      img.src = this.address(index, window);
      img.decode().then(resolve, reject);
    });
    task.ready = decoded.then(
      () => {
        task.done = true;
        return img;
      },
      (error) => {
        if (this.images.get(key) === task) this.images.delete(key);
        throw error;
      },
    );
    this.images.set(key, task);
    for (const [old, { done }] of this.images) {
      if (this.images.size <= KEEP) break;
      if (done && old !== key) this.images.delete(old);
    }
    return task.ready;
  }

  address(index, window) {
    return this.entries[index].src + (window ? `&window=${window}` : "");
  }

  /** What lies over a picture, as markup of ours. */
  overlay(index) {
    const known = this.overlays.get(index);
    if (known) return known.ready;
    const stop = new AbortController();
    const task = { stop, done: false, text: null };
    task.ready = fetch(this.overlayAddress(this.entries[index]), { signal: stop.signal, headers: { Accept: "text/html" } })
      .then((answer) => {
        if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
        return answer.text();
      })
      .then(
        (text) => {
          task.done = true;
          task.text = text;
          return text;
        },
        (error) => {
          if (this.overlays.get(index) === task) this.overlays.delete(index);
          throw error;
        },
      );
    this.overlays.set(index, task);
    return task.ready;
  }

  /** The overlay if it is there, else null. */
  overlayNow(index) {
    return this.overlays.get(index)?.text ?? null;
  }

  /** One looks at `index` and moves by `step` (1 or -1) within `first`..`last`: fetch what comes, drop what does not. */
  ahead(index, step, first, last, window) {
    const ahead = step > 0 ? last - index : index - first;
    const behind = last - first - ahead;
    // At an end one can only turn round.
    const there = Math.min(AHEAD, ahead);
    const back = Math.min(AHEAD + BEHIND - there, behind);
    const places = [index];
    for (let i = 1; i <= Math.max(there, back); i += 1) {
      if (i <= there) places.push(index + i * step);
      if (i <= back) places.push(index - i * step);
    }
    this.wanted = places.map((i) => ({ index: i, window }));
    const keep = new Set(this.wanted.map((w) => `${w.index} ${w.window}`));
    for (const [key, task] of this.images) {
      if (task.done || keep.has(key) || task.index === this.held) continue;
      this.images.delete(key);
      task.giveUp();
    }
    for (const [key, task] of this.overlays) {
      if (task.done || key === this.held || this.wanted.some((w) => w.index === key)) continue;
      this.overlays.delete(key);
      task.stop.abort();
    }
    this.pump();
  }

  pump() {
    // What one waits for comes first: the server's processors are few.
    while (this.running < (this.held === null ? PARALLEL : 1)) {
      const next = this.wanted.shift();
      if (!next) return;
      if (this.images.get(`${next.index} ${next.window}`)?.done && this.overlays.get(next.index)?.done) continue;
      this.running += 1;
      Promise.allSettled([this.image(next.index, next.window), this.overlay(next.index)]).then(() => {
        this.running -= 1;
        this.pump();
      });
    }
  }
}
