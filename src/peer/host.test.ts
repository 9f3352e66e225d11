import { beforeEach, expect, type MockInstance, test, vi } from 'vitest';
import type { PeerModel, SideRequest } from './api.ts';
import { PeerHost } from './host.ts';
import type { Surroundings } from './served.ts';
import type { MakeMlcEngine } from './session.ts';
import { folderOf, goodFiles } from './testing.ts';

/** One exclusive lock, as the browser gives it. */
class FakeLocks {
  isHeld = false;

  request(_: string, { signal }: LockOptions, work: () => Promise<void>): Promise<void> {
    if (this.isHeld) {
      return new Promise((_resolve, reject) => {
        signal?.addEventListener('abort', () => reject(new DOMException('late', 'TimeoutError')));
      });
    }
    this.isHeld = true;
    return work().finally(() => (this.isHeld = false));
  }
}

const adapter = {
  info: { vendor: 'acme', architecture: 'acme', description: 'GPU 1' },
  features: new Set<string>(),
  limits: {
    maxBufferSize: 2 ** 30,
    maxStorageBufferBindingSize: 2 ** 30,
    maxComputeWorkgroupStorageSize: 32768,
    maxStorageBuffersPerShaderStage: 10,
  },
};
const request: SideRequest = {
  question: '问',
  system: '',
  seed: 1,
  sampling: { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, maxTokens: 8 },
};

let locks: FakeLocks;
let warned: MockInstance<typeof console.warn>;
let log: string[];
let where: Surroundings;
let hasGpu: boolean;
let loadError: Error | null;
let comes: () => Promise<MakeMlcEngine>;

beforeEach(() => {
  locks = new FakeLocks();
  log = [];
  hasGpu = true;
  loadError = null;
  const gpu = { requestAdapter: () => Promise.resolve(hasGpu ? adapter : null) };
  vi.stubGlobal('navigator', { gpu, locks });
  vi.stubGlobal('BroadcastChannel', class extends EventTarget {});
  warned = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
  where = {
    location: { origin: 'http://clinic.test' },
    fetch: () => Promise.resolve(new Response('the site')),
    caches: {} as CacheStorage,
  };
  comes = async () => {
    // Its own chunk comes over the usual way: nothing is closed yet.
    log.push(`runtime from ${await (await where.fetch('http://clinic.test/x.js')).text()}`);
    return ({ appConfig }) => ({
      async reload() {
        if (loadError !== null) throw loadError;
        const [model] = appConfig.model_list;
        log.push(`load ${(await where.fetch(`${model?.model}tokenizer.json`)).status}`);
      },
      unload: () => Promise.resolve(void log.push('unload')),
      interruptGenerate: () => void log.push('interrupt'),
      chat: {
        completions: {
          // eslint-disable-next-line @typescript-eslint/require-await -- a stream of one piece
          create: async () =>
            (async function* () {
              yield await Promise.resolve({ choices: [{ delta: { content: '好' } }] });
            })(),
        },
      },
    });
  };
});

async function model(host: PeerHost): Promise<PeerModel> {
  const checked = await host.check(folderOf(goodFiles()), () => undefined);
  if (checked.model === null) throw new Error(checked.problem.kind);
  return checked.model;
}
const make = (): PeerHost => new PeerHost(where, () => comes());

test('the runtime comes first, then the way out is closed, then the model is loaded', async () => {
  const host = make();
  const facts = await host.open(await model(host), () => undefined);
  expect(log).toEqual(['runtime from the site', 'load 200']);
  expect(facts).toMatchObject({ backend: 'web-llm', adapter: 'acme GPU 1' });
  await expect(where.fetch('http://clinic.test/x.js')).rejects.toThrow(TypeError);
  expect(locks.isHeld).toBe(true);
  const pieces: string[] = [];
  const result = await host.generate(request, (piece) => void pieces.push(piece));
  expect([result.text, pieces]).toEqual(['好', ['好']]);
  await host.close();
  expect(log.slice(-2)).toEqual(['interrupt', 'unload']);
  await vi.waitFor(() => expect(locks.isHeld).toBe(false));
});

test('without a GPU a folder is still looked at, and nothing is loaded', async () => {
  const host = make();
  const good = await model(host);
  hasGpu = false;
  const { problem } = await host.check(folderOf(goodFiles()), () => undefined);
  expect(problem?.kind).toBe('no-webgpu');
  await expect(host.open(good, () => undefined)).rejects.toMatchObject({ name: 'NoWebGpu' });
  expect(log).toEqual([]);
});

test('a runtime that does not come is told as PartMissing, and the place is free again', async () => {
  const host = make();
  const good = await model(host);
  comes = () => Promise.reject(new TypeError('Failed to fetch dynamically imported module'));
  await expect(host.open(good, () => undefined)).rejects.toMatchObject({ name: 'PartMissing' });
  await host.close();
  await vi.waitFor(() => expect(locks.isHeld).toBe(false));
  await expect(host.generate(request, () => undefined)).rejects.toMatchObject({ name: 'NoModel' });
});

test('a library that cannot run is told so, with a line for whoever made it', async () => {
  const host = make();
  const good = await model(host);
  loadError = new Error('Cannot find global function x');
  await expect(host.open(good, () => undefined)).rejects.toMatchObject({ name: 'BadLibrary' });
  expect(warned).toHaveBeenCalledWith(expect.stringContaining('global function x'));
});

test('another window that has a model keeps it', async () => {
  vi.spyOn(AbortSignal, 'timeout').mockImplementation(() => AbortSignal.abort());
  const host = make();
  const good = await model(host);
  locks.request = () => Promise.reject(new DOMException('late', 'TimeoutError'));
  await expect(host.open(good, () => undefined)).rejects.toMatchObject({ name: 'OtherWindow' });
  expect(log).toEqual([]);
  vi.restoreAllMocks();
});
