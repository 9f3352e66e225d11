import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { startEngine } from './client.ts';

/** Workers that never say a word. */
class SilentWorker extends EventTarget {
  static readonly started: SilentWorker[] = [];
  isTerminated = false;

  constructor() {
    super();
    SilentWorker.started.push(this);
  }

  postMessage(): void {}

  terminate(): void {
    this.isTerminated = true;
  }
}

beforeEach(() => {
  SilentWorker.started.length = 0;
  vi.stubGlobal('Worker', SilentWorker);
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test('a worker that hangs is ended with the calls to it, and the next call starts another one', async () => {
  const engine = startEngine();
  const asked = engine.probe();
  const failed = expect(asked).rejects.toMatchObject({ name: 'WorkerHung' });
  const renewing = engine.renew();
  expect(SilentWorker.started.map(({ isTerminated }) => isTerminated)).toEqual([true]);
  // It never said under which name it lives: nobody can know that it is dead.
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await renewing).toBe(false);
  await failed;
  void engine.probe().catch(() => undefined);
  expect(SilentWorker.started.map(({ isTerminated }) => isTerminated)).toEqual([true, false]);
});

test('a worker whose script does not come is a missing part; one that breaks says how', async () => {
  const engine = startEngine();
  const asked = engine.probe();
  SilentWorker.started[0]?.dispatchEvent(new Event('error'));
  await expect(asked).rejects.toMatchObject({ name: 'PartMissing' });
  const again = engine.probe();
  const broken = Object.assign(new Event('error'), { message: 'x is not defined' });
  SilentWorker.started[1]?.dispatchEvent(broken);
  await expect(again).rejects.toThrow('x is not defined');
  expect(SilentWorker.started[1]?.isTerminated).toBe(true);
});
