import { beforeEach, describe, expect, it, vi } from 'vitest';
import { samplePackage } from '../store/testing.ts';
import type { GenerateEvent, GenerateRequest, LoadProgress } from './api.ts';
import { Host } from './host.ts';

/** A GPU that can be lost and an engine that answers when the test says so. */
interface Fake {
  lose: (reason: string) => void;
  finish: () => void;
  emit: (event: GenerateEvent) => void;
  signal: AbortSignal | undefined;
  stops: number;
  disposed: number;
  read: string[];
}

const fake = vi.hoisted((): Fake => {
  const idle = () => undefined;
  return {
    lose: idle,
    finish: idle,
    emit: idle,
    signal: undefined,
    stops: 0,
    disposed: 0,
    read: [],
  };
});

vi.mock('../gpu/device.ts', () => ({
  requestGpu: () => Promise.resolve({ lost: new Promise((resolve) => (fake.lose = resolve)) }),
}));

vi.mock('../engine/engine.ts', () => {
  const engine = {
    info: { id: 'example' },
    counts: { decodeSteps: 3, decodeStepsAfterStop: 1 },
    noteStop: () => (fake.stops += 1),
    dispose: () => (fake.disposed += 1),
    generate: (_request: unknown, onEvent: Fake['emit'], signal: AbortSignal) => {
      fake.signal = signal;
      fake.emit = onEvent;
      return new Promise((resolve) => (fake.finish = () => resolve({ text: '好' })));
    },
  };
  const open = async (source: { read(name: string): Promise<Uint8Array> }) => {
    for (const name of ['manifest.json', 'shard-00000.bin']) {
      await source.read(name);
      fake.read.push(name);
    }
    return engine;
  };
  return { Engine: { open } };
});

const url = 'http://clinic.test/models/example/';
const request: GenerateRequest = {
  task: 'medkqa',
  turns: [{ role: 'user', text: '发烧' }],
  sampling: { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, maxTokens: 8 },
  seed: 1,
};
const piece = (text: string): GenerateEvent => ({ kind: 'piece', text, outputTokens: 1 });
const pause = () => new Promise((resolve) => setTimeout(resolve, 5));

let host: Host;

beforeEach(async () => {
  const files = await samplePackage(1);
  vi.stubGlobal('location', new URL('http://clinic.test/assets/worker.js'));
  vi.stubGlobal('navigator', {
    locks: { request: (_name: string, work: () => unknown) => work() },
  });
  vi.stubGlobal('fetch', (address: string) =>
    Promise.resolve(new Response(files.get(address.slice(url.length)))),
  );
  Object.assign(fake, { stops: 0, disposed: 0, read: [], signal: undefined });
  host = new Host();
});

describe('open', () => {
  it('loads from memory where the browser gives no storage, and lists what it fetched', async () => {
    const seen: LoadProgress[] = [];
    const info = await host.open(url, (progress) => void seen.push(progress));
    expect(info.id).toBe('example');
    expect(info.fetched).toContain('shard-00000.bin');
    expect(fake.read).toEqual(['manifest.json', 'shard-00000.bin']);
    expect(seen.at(-1)).toMatchObject({ phase: 'download', network: true });
    expect(seen.at(-1)?.bytesDone).toBe(seen.at(-1)?.bytesTotal);
  });

  it.each(['http://elsewhere.test/models/example/', 'http://clinic.test/models/example'])(
    'refuses %s: not a folder of this site',
    async (bad) => {
      await expect(host.open(bad, () => undefined)).rejects.toThrow('no folder of this site');
    },
  );

  it('is Busy while it opens, and disposes of the engine before', async () => {
    const first = host.open(url, () => undefined);
    await expect(host.open(url, () => undefined)).rejects.toMatchObject({ name: 'Busy' });
    await expect(host.generate(request, () => undefined)).rejects.toMatchObject({ name: 'Busy' });
    await first;
    await host.open(url, () => undefined);
    expect(fake.disposed).toBe(1);
  });
});

describe('generate', () => {
  beforeEach(() => host.open(url, () => undefined));

  it('gives its result only after the page has seen every piece', async () => {
    let text = '';
    const receive = async (event: GenerateEvent): Promise<void> => {
      await pause();
      if (event.kind === 'piece') text += event.text;
    };
    const answer = host.generate(request, receive);
    fake.emit({ kind: 'prefill', done: 1, total: 1, remainingMs: 0 });
    for (const part of ['多', '喝', '水']) fake.emit(piece(part));
    fake.finish();
    await answer;
    expect(text).toBe('多喝水');
  });

  it('is Busy while it answers, and free again afterwards', async () => {
    const first = host.generate(request, () => undefined);
    await expect(host.generate(request, () => undefined)).rejects.toMatchObject({ name: 'Busy' });
    fake.finish();
    await first;
    const second = host.generate(request, () => undefined);
    fake.finish();
    await second;
  });

  it('hands a stop on at once, and takes none where nothing runs', async () => {
    await host.stop();
    expect(fake.stops).toBe(0);
    const answer = host.generate(request, () => undefined);
    expect(fake.signal?.aborted).toBe(false);
    await host.stop();
    expect(fake.signal?.aborted).toBe(true);
    expect(fake.stops).toBe(1);
    fake.finish();
    await answer;
    expect(await host.counts()).toEqual({ decodeSteps: 3, decodeStepsAfterStop: 1 });
  });
});

describe('a lost GPU', () => {
  it('ends the answer under way, tells who asked early, and opens anew', async () => {
    const told = host.lost();
    await host.open(url, () => undefined);
    const answer = host.generate(request, () => undefined);
    fake.lose('driver reset');
    await expect(answer).rejects.toMatchObject({ name: 'DeviceLost', message: 'driver reset' });
    expect(await told).toBe('driver reset');
    await expect(host.generate(request, () => undefined)).rejects.toMatchObject({
      name: 'DeviceLost',
    });
    await host.open(url, () => undefined);
    const toldAgain = host.lost();
    const second = host.generate(request, () => undefined);
    fake.finish();
    await second;
    fake.lose('again');
    expect(await toldAgain).toBe('again');
  });
});

it('has nothing to count before a package is open', async () => {
  expect(await host.counts()).toEqual({ decodeSteps: 0, decodeStepsAfterStop: 0 });
  await expect(host.generate(request, () => undefined)).rejects.toThrow('no package is open');
});
