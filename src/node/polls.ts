/**
 * Dawn in Node waits by asking again and again: as long as a promise of WebGPU is open, it has
 * `setImmediate` call it once per turn of the event loop. That keeps a whole core busy, which a driver
 * in software needs for its work.
 */

/** So long a wait may keep its core: what a GPU is done with at once is heard of at once. */
const BUSY_MS = 0.5;
/** The shortest rest that timers know. */
const REST_MS = 1;

type Immediate = typeof setImmediate;

let isResting = false;

/** For this whole process: waiting for a GPU in software leaves it the cores. Once is enough. */
export function restBetweenPolls(): void {
  if (isResting) return;
  isResting = true;
  globalThis.setImmediate = resting(globalThis.setImmediate, globalThis.setTimeout);
}

const isNative = (called: unknown): boolean =>
  Function.prototype.toString.call(called).endsWith('{ [native code] }');

/** `soon` for everything but Dawn's polls: those rest after a while, in `later`. */
export function resting(soon: Immediate, later: typeof setTimeout): Immediate {
  let isPolling = false;
  let since = 0;
  const rest = (poll: (...given: unknown[]) => void, ...given: unknown[]): unknown => {
    if (!isNative(poll)) return soon(poll, ...given);
    // One that is asked for outside of a poll begins a wait.
    if (!isPolling) since = performance.now();
    const call = (): void => {
      isPolling = true;
      try {
        poll(...given);
      } finally {
        isPolling = false;
      }
    };
    return performance.now() - since < BUSY_MS ? soon(call) : later(call, REST_MS);
  };
  return Object.assign(rest, soon);
}
