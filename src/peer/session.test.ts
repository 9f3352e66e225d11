import { expect, test } from 'vitest';
import { Failure } from '../failure.ts';
import type { PeerModel, SideRequest } from './api.ts';
import { checkFolder } from './check.ts';
import { serveOnly, type Surroundings } from './served.ts';
import { type MakeMlcEngine, type MlcChunk, type MlcRequest, PeerSession } from './session.ts';
import { folderOf, goodFiles } from './testing.ts';

const limits = {
  maxBufferSize: 2 ** 30,
  maxStorageBufferBindingSize: 2 ** 30,
  maxComputeWorkgroupStorageSize: 32768,
  maxStorageBuffersPerShaderStage: 10,
};

async function goodModel(files = goodFiles()): Promise<PeerModel> {
  const { model, problem } = await checkFolder(folderOf(files), { features: new Set(), limits });
  if (model === null) throw new Error(problem.kind);
  return model;
}

/** A worker's scope: its `fetch` and `caches` fail a test that reaches them. */
function scope(): Surroundings & { WebSocket?: unknown; XMLHttpRequest?: unknown } {
  const forbidden = (): never => {
    throw new Error('a request left');
  };
  return {
    location: { origin: 'http://clinic.test' },
    fetch: forbidden,
    caches: { open: forbidden } as unknown as CacheStorage,
    WebSocket: forbidden,
    XMLHttpRequest: forbidden,
  };
}

const served = { base: 'http://clinic.test/x/resolve/y/', library: 'http://clinic.test/x/l.wasm' };
const request: SideRequest = {
  question: '宝宝发烧怎么办？',
  system: '',
  seed: 7,
  sampling: {
    temperature: 0.5,
    topK: 40,
    topP: 0.9,
    repetitionPenalty: 1.1,
    maxTokens: 32,
  },
};
const usage = {
  prompt_tokens: 9,
  completion_tokens: 2,
  extra: { prefill_tokens_per_s: 90, decode_tokens_per_s: 20 },
};
const piece = (content: string): MlcChunk => ({ choices: [{ delta: { content } }] });
const end = (reason: string): MlcChunk[] => [
  { choices: [{ delta: {}, finish_reason: reason }] },
  { choices: [], usage },
];

/** A runtime that follows a script. */
class FakeMlc {
  readonly calls: string[] = [];
  readonly requests: MlcRequest[] = [];
  config: Parameters<MakeMlcEngine>[0] | null = null;
  chunks: readonly (MlcChunk | Error)[] = [piece('多'), piece('喝水'), ...end('stop')];
  loadError: Error | null = null;
  onChunk: () => void | Promise<void> = () => undefined;
  readonly make: MakeMlcEngine = (config) => {
    this.config = config;
    return {
      reload: (id) => {
        this.calls.push(`reload ${id}`);
        config.initProgressCallback({ progress: 0.5, text: 'Loading model from cache[1/2]' });
        config.initProgressCallback({ progress: 0.2, text: 'Loading GPU shader modules[1/5]' });
        return this.loadError === null ? Promise.resolve() : Promise.reject(this.loadError);
      },
      unload: () => Promise.resolve(void this.calls.push('unload')),
      interruptGenerate: () => void this.calls.push('interrupt'),
      chat: {
        completions: {
          create: (asked) => {
            this.requests.push(asked);
            return Promise.resolve(this.#stream());
          },
        },
      },
    };
  };

  async *#stream(): AsyncGenerator<MlcChunk> {
    for (const chunk of this.chunks) {
      await this.onChunk();
      if (chunk instanceof Error) throw chunk;
      yield chunk;
    }
  }
}

const named = (name: string, message = ''): Error => Object.assign(new Error(message), { name });

test('a model is loaded from the served addresses only, with progress on the way', async () => {
  const mlc = new FakeMlc();
  const steps: unknown[] = [];
  const session = await PeerSession.open(mlc.make, await goodModel(), served, 'a GPU', (step) =>
    steps.push(step),
  );
  expect(mlc.config?.appConfig).toEqual({
    model_list: [{ model: served.base, model_id: 'imported', model_lib: served.library }],
    cacheBackend: 'cache',
  });
  expect(mlc.calls).toEqual(['reload imported']);
  expect(steps).toEqual([
    { phase: 'upload', part: 0.5 },
    { phase: 'compile', part: 0.2 },
  ]);
  expect(session.facts).toEqual({
    model: 'a model',
    backend: 'web-llm',
    variant: 'f32',
    adapter: 'a GPU',
  });
});

async function open(mlc: FakeMlc): Promise<PeerSession> {
  return PeerSession.open(mlc.make, await goodModel(), served, 'a GPU', () => undefined);
}

test('an answer comes in pieces, with the same sampling and seed, and its speeds', async () => {
  const mlc = new FakeMlc();
  const session = await open(mlc);
  const pieces: string[] = [];
  const result = await session.generate(request, (one) => pieces.push(one));
  expect(pieces).toEqual(['多', '喝水']);
  expect(result).toEqual({
    text: '多喝水',
    promptTokens: 9,
    reusedTokens: 0,
    outputTokens: 2,
    prefillTokensPerSecond: 90,
    decodeTokensPerSecond: 20,
    finish: 'stop',
    ran: { backend: 'web-llm', variant: 'f32', adapter: 'a GPU' },
  });
  expect(mlc.requests).toEqual([
    {
      stream: true,
      stream_options: { include_usage: true },
      messages: [{ role: 'user', content: request.question }],
      temperature: 0.5,
      top_p: 0.9,
      repetition_penalty: 1.1,
      presence_penalty: 0,
      max_tokens: 32,
      seed: 7,
    },
  ]);
  await session.generate({ ...request, system: '简短回答' }, () => undefined);
  expect(mlc.requests[1]?.messages[0]).toEqual({ role: 'system', content: '简短回答' });
});

test('the length limit and a stop are told apart from an end of its own', async () => {
  const mlc = new FakeMlc();
  const session = await open(mlc);
  mlc.chunks = [piece('好'), ...end('length')];
  expect((await session.generate(request, () => undefined)).finish).toBe('length');
  mlc.chunks = [piece('好'), ...end('abort')];
  expect((await session.generate(request, () => undefined)).finish).toBe('cancelled');
  mlc.chunks = [piece('好'), ...end('stop')];
  mlc.onChunk = () => session.stop();
  const stopped = await session.generate(request, () => undefined);
  expect(stopped).toMatchObject({ finish: 'cancelled', text: '好' });
  expect(mlc.calls).toContain('interrupt');
  mlc.onChunk = () => undefined;
  expect((await session.generate(request, () => undefined)).finish).toBe('stop');
  await session.close();
  expect(mlc.calls.at(-1)).toBe('unload');
});

test.each([
  [named('WebGPUNotAvailableError'), 'NoWebGpu'],
  [named('ShaderF16SupportError'), 'DeviceLimit'],
  [named('DeviceLostError'), 'DeviceLost'],
  [named('Error', 'Device was lost in reload'), 'DeviceLost'],
  [named('NotReadableError'), 'BadFolder'],
  [named('Error', 'Cannot find global function x'), 'BadLibrary'],
  [named('LinkError', 'import env.x'), 'BadLibrary'],
  [new Failure('Offline', 'no chunk'), 'Offline'],
])('a load that ends in %s is %s, and gives back what it had', async (error, name) => {
  const mlc = new FakeMlc();
  mlc.loadError = error;
  await expect(open(mlc)).rejects.toMatchObject({ name });
  expect(mlc.calls.at(-1)).toBe('unload');
});

test('an answer that breaks has the name of what broke it', async () => {
  const mlc = new FakeMlc();
  const session = await open(mlc);
  mlc.chunks = [piece('好'), named('ContextWindowSizeExceededError')];
  const pieces: string[] = [];
  await expect(session.generate(request, (one) => pieces.push(one))).rejects.toMatchObject({
    name: 'PromptTooLong',
  });
  expect(pieces).toEqual(['好']);
});

test('the runtime reaches the files of the folder under its own names, and nothing else', async () => {
  const files = goodFiles();
  files.set('ndarray-cache.json', files.get('tensor-cache.json') ?? '');
  files.delete('tensor-cache.json');
  const where = scope();
  const { base, library } = serveOnly(await goodModel(files), where);
  // web-llm puts no address of its own into one that has such a part.
  expect(base).toMatch(/^http:\/\/clinic\.test\/.+\/resolve\/[^/]+\/$/);
  const cache = await where.caches.open('webllm/model');
  const manifest = await cache.match(new Request(`${base}tensor-cache.json`));
  expect(await manifest?.text()).toBe(files.get('ndarray-cache.json'));
  const shard = await where.fetch(`${base}params_shard_1.bin`);
  expect(new Uint8Array(await shard.arrayBuffer())).toEqual(files.get('params_shard_1.bin'));
  const wasm = await where.fetch(library);
  expect(new Uint8Array(await wasm.arrayBuffer())).toEqual(files.get('model-webgpu.wasm'));
  await cache.add(`${base}tokenizer.json`);
  expect((await cache.keys()).map(({ url }) => url)).toContain(`${base}params_shard_0.bin`);
  expect(await cache.delete(library)).toBe(false);

  for (const address of [
    `${base}README.md`,
    `${base}../x`,
    'http://clinic.test/',
    'https://huggingface.co/mlc-ai/x/resolve/main/tensor-cache.json',
    'data:text/plain,x',
  ]) {
    expect(await cache.match(address)).toBeUndefined();
    await expect(where.fetch(address)).rejects.toThrow('no file of the imported model');
    await expect(cache.add(address)).rejects.toThrow(TypeError);
  }
  expect(where.WebSocket).toBeUndefined();
  expect(where.XMLHttpRequest).toBeUndefined();
});
