import { beforeEach, expect, test, vi } from 'vitest';
import type { SideRequest } from '../../peer/api.ts';
import { FakeEngine, fakeInfo, type Script } from '../testing/fake-engine.ts';
import { Gate } from '../testing/steps.ts';
import { type OurChoice, startOurs } from './our-side.ts';

const choice: OurChoice = {
  address: 'installed:a@1',
  backend: 'cpu',
  task: 'evidiag',
  careful: true,
};
const request: SideRequest = {
  question: '咳嗽怎么办？',
  system: '简短回答',
  seed: 3,
  sampling: fakeInfo.sampling,
};

let ended: number;
beforeEach(() => {
  ended = 0;
});

function side(script: Script = {}) {
  const engine = new FakeEngine(script);
  const ending = Object.assign(engine, { end: () => void (ended += 1) });
  return { engine, side: startOurs(choice, () => ending) };
}
const never = new AbortController().signal;
const ignore = (): void => undefined;

test('a package is loaded as it was chosen, and asked as it was meant', async () => {
  const step = {
    phase: 'upload',
    bytesDone: 1,
    bytesTotal: 4,
    file: null,
    network: false,
  } as const;
  const { engine, side: ours } = side({ progress: [step, { ...step, bytesTotal: 0 }] });
  const parts: unknown[] = [];
  const model = await ours.load((progress) => parts.push(progress), never);
  expect(model).toEqual({
    model: 'fake',
    backend: 'wgsl',
    variant: 'f32',
    adapter: 'fake adapter',
  });
  expect(parts).toEqual([
    { phase: 'upload', part: 0.25 },
    { phase: 'upload', part: null },
  ]);
  expect([engine.opened, engine.backends, engine.careful]).toEqual([
    ['installed:a@1'],
    ['cpu'],
    [true],
  ]);
  const pieces: string[] = [];
  const signs: string[] = [];
  const result = await ours.generate(
    request,
    (piece) => pieces.push(piece),
    never,
    (event) => signs.push(event.kind),
  );
  expect(signs).toEqual(['prefill', 'prefill']);
  expect(pieces.join('')).toBe('好的。');
  expect(result).toMatchObject({ text: '好的。', finish: 'stop', ran: { backend: 'wgsl' } });
  expect(engine.requests).toEqual([
    {
      task: 'evidiag',
      turns: [{ role: 'user', text: '咳嗽怎么办？' }],
      sampling: fakeInfo.sampling,
      seed: 3,
      system: '简短回答',
    },
  ]);
  await ours.dispose();
  expect([engine.closes, ended]).toEqual([1, 1]);
});

test('a stop while it loads does not wait for the load', async () => {
  const gate = new Gate();
  const { side: ours } = side({
    progress: [{ phase: 'upload', bytesDone: 0, bytesTotal: 1, file: null, network: false }],
    pause: gate.pause,
  });
  const stop = new AbortController();
  const loading = ours.load(() => undefined, stop.signal);
  stop.abort();
  await expect(loading).rejects.toMatchObject({ name: 'Cancelled' });
  await ours.dispose();
  expect(ended).toBe(1);
});

test('a stop ends the answer, with what is there', async () => {
  const gate = new Gate();
  const { engine, side: ours } = side({ answers: [['一', '二', '三']], pause: gate.pause });
  await ours.load(() => undefined, never);
  const stop = new AbortController();
  const answering = ours.generate(request, () => undefined, stop.signal, ignore);
  await gate.step(2);
  stop.abort();
  await gate.run();
  expect(await answering).toMatchObject({ finish: 'cancelled', text: '一' });
  expect(engine.stops).toBe(1);
});

test('a worker that does not let go is ended all the same', async () => {
  vi.useFakeTimers();
  const { engine, side: ours } = side();
  engine.close = () => new Promise(() => undefined);
  const disposing = ours.dispose();
  await vi.advanceTimersByTimeAsync(5000);
  await disposing;
  // Only when it is dead has the next side its place.
  expect([engine.renews, ended]).toEqual([1, 1]);
  const { engine: broken, side: another } = side();
  broken.close = () => Promise.reject(new Error('broken'));
  await another.dispose();
  expect([broken.renews, ended]).toEqual([0, 2]);
  vi.useRealTimers();
});

test('a worker that hangs is ended, asked for nothing more, and its answer fails', async () => {
  const gate = new Gate();
  const { engine, side: ours } = side({ answers: [['一', '二']], pause: gate.pause });
  await ours.load(() => undefined, never);
  const stop = new AbortController();
  const answering = ours.generate(request, () => undefined, stop.signal, ignore);
  const failed = expect(answering).rejects.toMatchObject({ name: 'WorkerHung' });
  await gate.step(2);
  ours.end();
  stop.abort();
  await failed;
  await ours.dispose();
  expect([engine.renews, engine.stops, engine.closes, ended]).toEqual([1, 0, 0, 1]);
});

test('a load that waits for whoever is busy with the package says so', async () => {
  const waits = {
    phase: 'manifest',
    bytesDone: 0,
    bytesTotal: 0,
    file: 'manifest.json',
    network: false,
  } as const;
  const { side: ours } = side({ progress: [waits, { ...waits, file: null }] });
  const steps: unknown[] = [];
  await ours.load((step) => steps.push(step), never);
  expect(steps).toEqual([
    { phase: 'manifest', part: null, waits: true },
    { phase: 'manifest', part: null },
  ]);
});
