// Frame rate and latency of what was shown in the last ten seconds.

const WINDOW_MS = 10000;

export class Meter {
  #frames = []; // [shown, latency], ms

  add(stamp, now = performance.now()) {
    this.#frames.push([now, now - stamp]);
  }

  clear() {
    this.#frames = [];
  }

  rates(now = performance.now()) {
    this.#frames = this.#frames.filter(([shown]) => now - shown <= WINDOW_MS);
    const count = this.#frames.length;
    if (count < 2) return null;
    const span = this.#frames[count - 1][0] - this.#frames[0][0];
    const sorted = this.#frames.map(([, latency]) => latency).sort((a, b) => a - b);
    const at = (share) => sorted[Math.min(count - 1, Math.floor(share * count))];
    return { fps: (1000 * (count - 1)) / span, p50: at(0.5), p95: at(0.95), count };
  }
}
