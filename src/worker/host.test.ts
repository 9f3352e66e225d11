import { beforeEach, describe, expect, it, vi } from 'vitest';
import { Failure } from '../failure.ts';
import type { GpuOptions } from '../gpu/device.ts';
import { carefulTuning } from '../gpu/tuning.ts';
import { samplePackage } from '../store/testing.ts';
import type { FellBack, GenerateEvent, GenerateRequest, LoadProgress } from './api.ts';
import { Host } from './host.ts';

/** A GPU that can be lost and an engine that answers when the test says so. */
interface Fake {
  lose: (reason: string) => void;
  /** What the engine does after a loss. */
  renew: () => Promise<unknown>;
  fail: (error: Error) => void;
  /** Requests for a device, and whether they are granted. */
  devices: number;
  granted: boolean;
  /** How the last device was asked for. */
  asked: GpuOptions | undefined;
  finish: () => void;
  emit: (event: GenerateEvent) => void;
  signal: AbortSignal | undefined;
  stops: number;
  disposed: number;
  read: string[];
  /** What the engine was opened with. */
  opened: { gpu: boolean; cpu: boolean };
  /** What its GPU was to keep keys and values as. */
  cache: string | undefined;
  /** Waited for before the engine is there. */
  loaded: Promise<void>;
  /** What it tried and left. */
  fellBack: readonly FellBack[];
  /** Whether it may choose kernels by measurement. */
  measures: boolean;
}

const fake = vi.hoisted((): Fake => {
  const idle = () => undefined;
  return {
    lose: idle,
    renew: () => Promise.resolve(),
    fail: idle,
    devices: 0,
    granted: true,
    asked: undefined,
    finish: idle,
    emit: idle,
    signal: undefined,
    stops: 0,
    disposed: 0,
    read: [],
    opened: { gpu: false, cpu: false },
    cache: undefined,
    loaded: Promise.resolve(),
    fellBack: [],
    measures: false,
  };
});

vi.mock('../gpu/device.ts', () => ({
  requestGpu: (_gpu: unknown, options: GpuOptions) => {
    fake.devices += 1;
    fake.asked = options;
    if (!fake.granted)
      return Promise.reject(Object.assign(new Error('no adapter'), { name: 'NoWebGpu' }));
    const lost = new Promise((resolve) => (fake.lose = resolve));
    return Promise.resolve({ lost, cache: options.cache });
  },
}));

vi.mock('../engine/engine.ts', () => {
  const engine = {
    get info() {
      return { id: 'example', fellBack: fake.fellBack };
    },
    counts: { decodeSteps: 3, decodeStepsAfterStop: 1 },
    noteStop: () => (fake.stops += 1),
    dispose: () => (fake.disposed += 1),
    generate: (_request: unknown, onEvent: Fake['emit'], signal: AbortSignal) => {
      fake.signal = signal;
      fake.emit = onEvent;
      return new Promise((resolve, reject) => {
        fake.finish = () => resolve({ text: '好' });
        fake.fail = reject;
      });
    },
  };
  const open = async (
    source: { read(name: string): Promise<Uint8Array> },
    gpu: { cache?: string } | null,
    options: {
      renewGpu: () => Promise<unknown>;
      cpu?: unknown;
      measurements?: unknown;
      signal: AbortSignal;
    },
  ) => {
    fake.signal = options.signal;
    fake.opened = { gpu: gpu !== null, cpu: options.cpu !== undefined };
    fake.cache = gpu?.cache;
    fake.measures = options.measurements !== undefined;
    fake.renew = options.renewGpu;
    for (const name of ['manifest.json', 'shard-00000.bin']) {
      await source.read(name);
      fake.read.push(name);
    }
    await fake.loaded;
    return engine;
  };
  return { Engine: { open } };
});

const url = 'http://clinic.test/models/example/';
const webgpu = { backend: 'webgpu' } as const;
const request: GenerateRequest = {
  task: 'medkqa',
  turns: [{ role: 'user', text: '发烧' }],
  sampling: { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, maxTokens: 8 },
  seed: 1,
};
const piece = (text: string): GenerateEvent => ({ kind: 'piece', text, outputTokens: 1 });
const pause = () => new Promise((resolve) => setTimeout(resolve, 5));

/** Every lock is free. */
const locks = {
  request: (_name: string, ...rest: unknown[]) => {
    const work = rest.at(-1) as (lock: object) => unknown;
    return Promise.resolve(work({}));
  },
};

let host: Host;

beforeEach(async () => {
  const files = await samplePackage(1);
  vi.stubGlobal('location', new URL('http://clinic.test/assets/worker.js'));
  vi.stubGlobal('navigator', {
    locks,
  });
  vi.stubGlobal('fetch', (address: string) =>
    Promise.resolve(new Response(files.get(address.slice(url.length)))),
  );
  const loaded = Promise.resolve();
  Object.assign(fake, { stops: 0, disposed: 0, read: [], signal: undefined, fellBack: [], loaded });
  host = new Host();
});

describe('open', () => {
  it('loads from memory where the browser gives no storage, and lists what it fetched', async () => {
    const seen: LoadProgress[] = [];
    const info = await host.open(url, (progress) => void seen.push(progress), webgpu);
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
    const first = host.open(url, () => undefined, webgpu);
    await expect(host.open(url, () => undefined, webgpu)).rejects.toMatchObject({ name: 'Busy' });
    await expect(host.generate(request, () => undefined)).rejects.toMatchObject({ name: 'Busy' });
    await first;
    await host.open(url, () => undefined, webgpu);
    expect(fake.disposed).toBe(1);
  });

  /** A load that has read its files, and does not end before the test says so. */
  async function underWay() {
    let end = (): void => undefined;
    fake.loaded = new Promise((resolve) => (end = resolve));
    const opening = host.open(url, () => undefined, webgpu);
    opening.catch(() => undefined);
    await vi.waitUntil(() => fake.read.length === 2);
    return { opening, end };
  }

  it('is ended by a stop, without a model even where that came last', async () => {
    const { opening, end } = await underWay();
    await host.stop();
    expect(fake.signal?.aborted).toBe(true);
    end();
    await expect(opening).rejects.toMatchObject({ name: 'Cancelled' });
    expect(fake.disposed).toBe(1);
    expect(host.openKey).toBeNull();
    const asked = host.generate(request, () => undefined);
    await expect(asked).rejects.toThrow('no package is open');
    await host.open(url, () => undefined, webgpu);
    expect(host.openKey).not.toBeNull();
  });

  it('that is stopped while files come says so, whatever it ran into', async () => {
    vi.stubGlobal('fetch', (_address: string, { signal }: RequestInit) => {
      return new Promise((_, reject) => {
        signal?.addEventListener('abort', () => reject(new TypeError('network error')));
        setTimeout(() => void host.stop(), 5);
      });
    });
    const opening = host.open(url, () => undefined, webgpu);
    await expect(opening).rejects.toMatchObject({ name: 'Cancelled' });
    expect(fake.read).toEqual([]);
  });

  it('is ended by another window that takes the model, and says that', async () => {
    const { opening, end } = await underWay();
    const other = new BroadcastChannel('pediatricsgpt-engine');
    other.postMessage('yield');
    await vi.waitUntil(() => fake.signal?.aborted === true);
    end();
    await expect(opening).rejects.toMatchObject({ name: 'OtherWindow' });
    expect(host.openKey).toBeNull();
    other.close();
  });
});

describe('generate', () => {
  beforeEach(() => host.open(url, () => undefined, webgpu));

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
  beforeEach(() => {
    fake.granted = true;
    fake.devices = 0;
  });

  it("is the engine's to replace once: the page does not hear of it", async () => {
    let told = '';
    void host.lost().then((reason) => (told = reason));
    await host.open(url, () => undefined, webgpu);
    const answer = host.generate(request, () => undefined);
    fake.lose('driver reset');
    await fake.renew();
    expect(fake.devices).toBe(2);
    fake.finish();
    expect(await answer).toMatchObject({ text: '好' });
    expect(told).toBe('');
    const next = host.generate(request, () => undefined);
    fake.finish();
    await next;
  });

  it('the second time ends the answer under way, tells who asked early, and opens anew', async () => {
    const told = host.lost();
    await host.open(url, () => undefined, webgpu);
    const answer = host.generate(request, () => undefined);
    fake.lose('driver reset');
    await fake.renew();
    fake.lose('driver reset again');
    await expect(answer).rejects.toMatchObject({
      name: 'DeviceLost',
      message: 'driver reset again',
    });
    expect(await told).toBe('driver reset again');
    await expect(host.generate(request, () => undefined)).rejects.toMatchObject({
      name: 'DeviceLost',
    });
    await host.open(url, () => undefined, webgpu);
    const second = host.generate(request, () => undefined);
    fake.finish();
    await second;
  });

  it('for which there is no other is told, and ends the answer', async () => {
    const told = host.lost();
    await host.open(url, () => undefined, webgpu);
    const answer = host.generate(request, () => undefined);
    fake.granted = false;
    fake.lose('driver reset');
    const refused = expect(fake.renew()).rejects;
    await refused.toThrow('no new device: no adapter');
    fake.fail(new Failure('DeviceLost', 'no new device: no adapter'));
    await expect(answer).rejects.toMatchObject({ name: 'DeviceLost' });
    expect(await told).toBe('no new device: no adapter');
  });

  it('while nothing is answered is left to the next answer', async () => {
    let told = '';
    void host.lost().then((reason) => (told = reason));
    await host.open(url, () => undefined, webgpu);
    fake.lose('driver reset');
    const answer = host.generate(request, () => undefined);
    await fake.renew();
    fake.finish();
    await answer;
    expect(told).toBe('');
  });

  it('while a package is opened is told', async () => {
    const told = host.lost();
    await host.open(url, () => undefined, webgpu);
    fake.lose('between');
    await fake.renew();
    const opening = host.open(url, () => undefined, webgpu);
    fake.lose('while opening'); // the new device, which no engine replaces again
    await Promise.allSettled([opening]);
    expect(await told).toBe('while opening');
  });
});

describe('what computes', () => {
  const adapterOf = (architecture: string) => ({
    info: { vendor: 'google', architecture, device: '', description: '', isFallbackAdapter: false },
    features: new Set<string>(),
  });
  const offer = (adapter: unknown): void => {
    const gpu = { requestAdapter: () => Promise.resolve(adapter) };
    vi.stubGlobal('navigator', { locks, gpu });
  };

  beforeEach(() => {
    fake.granted = true;
    fake.devices = 0;
  });

  it.each([
    ['a GPU with the CPU behind it', adapterOf('turing'), undefined, { gpu: true, cpu: true }],
    ['the CPU instead of software', adapterOf('swiftshader'), undefined, { gpu: false, cpu: true }],
    ['the CPU without an adapter', null, undefined, { gpu: false, cpu: true }],
    ['the GPU alone, as asked', adapterOf('swiftshader'), 'webgpu', { gpu: true, cpu: false }],
    ['the CPU alone, as asked', adapterOf('turing'), 'cpu', { gpu: false, cpu: true }],
  ] as const)('is %s', async (_, adapter, backend, opened) => {
    offer(adapter);
    await host.open(url, () => undefined, backend === undefined ? {} : { backend });
    expect(fake.opened).toEqual(opened);
    expect(fake.devices).toBe(opened.gpu ? 1 : 0);
  });

  it.each([
    [true, 'a GPU', 'turing', false],
    [false, 'a driver in software', 'swiftshader', false],
    [false, 'a GPU on which everything is to be plain', 'turing', true],
  ])('is chosen by measurement: %s for %s', async (measures, _, architecture, careful) => {
    offer(adapterOf(architecture));
    await host.open(url, () => undefined, { backend: 'webgpu', careful });
    expect(fake.measures).toBe(measures);
  });

  it('is the CPU where an adapter gives no device, and the page is told', async () => {
    offer(adapterOf('turing'));
    fake.granted = false;
    const { fellBack } = await host.open(url, () => undefined);
    expect(fake.opened).toEqual({ gpu: false, cpu: true });
    expect(fellBack).toEqual([{ from: 'WebGPU', because: 'NoWebGpu' }]);
    await expect(host.open(url, () => undefined, webgpu)).rejects.toThrow('no adapter');
  });

  it('is told with what the engine tried before it', async () => {
    offer(adapterOf('turing'));
    expect((await host.open(url, () => undefined)).fellBack).toEqual([]);
    fake.fellBack = [{ from: 'WebGPU f16', because: 'WrongNumbers' }];
    expect((await host.open(url, () => undefined)).fellBack).toEqual(fake.fellBack);
  });

  it('is no fallback where it is the CPU by choice', async () => {
    offer(adapterOf('swiftshader'));
    expect((await host.open(url, () => undefined)).fellBack).toEqual([]);
  });

  it('is as plain and as small as can be where the page died, else as usual', async () => {
    offer(adapterOf('turing'));
    await host.open(url, () => undefined);
    expect([fake.asked, fake.cache]).toEqual([{}, undefined]);
    await host.open(url, () => undefined, { careful: true });
    expect(fake.asked).toEqual({ variant: 'f32', cache: 'int8', tuning: carefulTuning });
    expect(fake.cache).toBe('int8');
  });

  it('rounds no cache to 8 bits where no known answer proves the numbers', async () => {
    offer(adapterOf('turing'));
    const files = await samplePackage(1);
    const manifest = JSON.parse(new TextDecoder().decode(files.get('manifest.json'))) as object;
    const unproved = JSON.stringify({ ...manifest, knownAnswer: null });
    vi.stubGlobal('fetch', (address: string) => {
      const name = address.slice(url.length);
      return Promise.resolve(new Response(name === 'manifest.json' ? unproved : files.get(name)));
    });
    await host.open(url, () => undefined, { careful: true });
    expect([fake.asked?.cache, fake.cache]).toEqual(['int8', 'elem']);
  });

  it('goes on where a second GPU is lost and the CPU is behind it', async () => {
    offer(adapterOf('turing'));
    let told = '';
    void host.lost().then((reason) => (told = reason));
    await host.open(url, () => undefined);
    const answer = host.generate(request, () => undefined);
    fake.lose('driver reset');
    await fake.renew();
    fake.lose('driver reset again');
    await pause();
    fake.finish();
    expect(await answer).toMatchObject({ text: '好' });
    expect(told).toBe('');
  });

  it('is nothing for a package that the CPU cannot run, and none of its weights is fetched', async () => {
    offer(null);
    const fetched: string[] = [];
    const files = await samplePackage(1);
    // Heads of the same width together, but each too narrow for it.
    const manifest = new TextDecoder()
      .decode(files.get('manifest.json'))
      .replace('"heads":2,"kvHeads":2,"headDim":16', '"heads":4,"kvHeads":4,"headDim":8');
    vi.stubGlobal('fetch', (address: string) => {
      fetched.push(address.slice(url.length));
      return Promise.resolve(new Response(manifest));
    });
    const opening = host.open(url, () => undefined);
    await expect(opening).rejects.toMatchObject({ name: 'CpuLimit' });
    expect(fetched).toEqual(['manifest.json']);
  });
});

it('has nothing to count before a package is open', async () => {
  expect(await host.counts()).toEqual({ decodeSteps: 0, decodeStepsAfterStop: 0 });
  await expect(host.generate(request, () => undefined)).rejects.toThrow('no package is open');
});
