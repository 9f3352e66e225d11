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

/** In the page: resolves when whoever holds that lock is dead. */
export async function untilDeath(
  name: string,
  locks: LockManager = navigator.locks,
): Promise<void> {
  await locks.request(name, () => undefined);
}
