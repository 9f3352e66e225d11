import { expose } from 'comlink';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { PeerModel, SideRequest } from './api.ts';
import { startPeer } from './client.ts';

/** A worker in which everything hangs but its birth. */
class HungWorker extends EventTarget {
  static readonly started: HungWorker[] = [];
  readonly #channel = new MessageChannel();
  isTerminated = false;

  constructor() {
    super();
    HungWorker.started.push(this);
    const never = () => new Promise<never>(() => undefined);
    const life = () => Promise.resolve('life');
    expose({ life, open: never, generate: never, stop: never, close: never }, this.#channel.port2);
    this.#channel.port1.onmessage = ({ data }: MessageEvent<unknown>) =>
      this.dispatchEvent(new MessageEvent('message', { data }));
  }

  postMessage(message: unknown, transfer: Transferable[]): void {
    this.#channel.port1.postMessage(message, transfer);
  }

  terminate(): void {
    this.isTerminated = true;
  }

  close(): void {
    this.#channel.port1.close();
  }
}

let die: () => void;
beforeEach(() => {
  HungWorker.started.length = 0;
  vi.stubGlobal('Worker', HungWorker);
  const death = new Promise<void>((resolve) => (die = resolve));
  vi.stubGlobal('navigator', { locks: { request: () => death } });
});
afterEach(() => {
  for (const worker of HungWorker.started) worker.close();
});

const never = new AbortController().signal;
const ignore = (): void => undefined;

test('an imported model that hangs is ended with its worker, and is over when that is dead', async () => {
  const side = startPeer({} as PeerModel);
  const [worker] = HungWorker.started;
  const answering = side.generate({} as SideRequest, ignore, never, ignore);
  const failed = expect(answering).rejects.toMatchObject({ name: 'WorkerHung' });
  expect(worker?.isTerminated).toBe(false);
  side.end();
  expect(worker?.isTerminated).toBe(true);
  let isOver = false;
  const disposing = side.dispose().then(() => (isOver = true));
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(isOver).toBe(false);
  die();
  await failed;
  await disposing;
  expect(HungWorker.started).toHaveLength(1);
});

test('a worker that dies by itself is told of', async () => {
  const side = startPeer({} as PeerModel);
  const answering = side.generate({} as SideRequest, ignore, never, ignore);
  const failed = expect(answering).rejects.toMatchObject({ name: 'WorkerLost' });
  die();
  await failed;
  await side.dispose();
});
