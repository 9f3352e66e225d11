/**
 * How a page learns that its worker has died. A worker that the browser ends, for want of memory or
 * otherwise, says nothing: calls to it would wait for ever. But the browser frees its locks.
 */

/** In the worker: holds a lock for as long as it lives, and gives the lock's name. */
export function holdLife(locks: LockManager = navigator.locks): Promise<string> {
  const name = `pediatricsgpt-life:${crypto.randomUUID()}`;
  return new Promise((resolve, reject) => {
    const held = locks.request(name, () => {
      resolve(name);
      return new Promise<void>(() => undefined);
    });
    held.catch((error: unknown) => {
      reject(error instanceof Error ? error : new Error(String(error)));
    });
  });
}

/** So long a browser may need to end a worker that is in an endless loop. */
const END_PATIENCE_MS = 10_000;

/**
 * In the page: ends a worker whatever it does. Resolves once it is dead, for only then is what it held
 * free for the next one: the model's lock, files. With false where the browser took too long for that.
 */
export function endWorker(worker: Worker, death: Promise<void>): Promise<boolean> {
  worker.terminate();
  const late = new Promise<false>((resolve) => setTimeout(() => resolve(false), END_PATIENCE_MS));
  return Promise.race([death.then(() => true).catch(() => false), late]);
}

/** In the page: resolves when whoever holds that lock is dead. */
export async function untilDeath(
  name: string,
  locks: LockManager = navigator.locks,
): Promise<void> {
  await locks.request(name, () => undefined);
}
