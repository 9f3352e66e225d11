/** Over so long a stretch of time the speed of a transfer is averaged. */
const WINDOW_MS = 5000;

/** How fast something grows, from what was seen in the last seconds. */
export class Rate {
  #seen: { readonly at: number; readonly bytes: number }[] = [];

  /** @param at milliseconds of a clock that only goes forward */
  see(bytes: number, at: number): void {
    // A file that begins anew is no negative speed: what was seen before says nothing now.
    if (bytes < (this.#seen.at(-1)?.bytes ?? 0)) this.#seen = [];
    this.#seen.push({ at, bytes });
    while (this.#seen.length > 2 && at - (this.#seen[0]?.at ?? at) > WINDOW_MS) this.#seen.shift();
  }

  /** Null while nobody can know. */
  get bytesPerSecond(): number | null {
    const first = this.#seen[0];
    const last = this.#seen.at(-1);
    if (!first || !last || last.at - first.at < 200 || last.bytes === first.bytes) return null;
    return ((last.bytes - first.bytes) / (last.at - first.at)) * 1000;
  }
}
