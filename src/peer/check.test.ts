import { createHash } from 'node:crypto';
import { describe, expect, it, test } from 'vitest';
import { checkFolder, type GpuFacts } from './check.ts';
import {
  chatConfig,
  type Files,
  folderOf,
  goodFiles,
  library,
  tensorCache,
  tvmExports,
} from './testing.ts';

const limits = {
  maxBufferSize: 2 ** 30,
  maxStorageBufferBindingSize: 2 ** 30,
  maxComputeWorkgroupStorageSize: 32768,
  maxStorageBuffersPerShaderStage: 10,
};
const gpu: GpuFacts = { features: new Set(['shader-f16']), limits };

/** What is wrong with a good folder once something was done to it. */
async function problemOf(worsen: (files: Files) => void, device: GpuFacts | null = gpu) {
  const files = goodFiles();
  worsen(files);
  return (await checkFolder(folderOf(files), device)).problem;
}
/** A copy of the manifest with a field set, named by its path. */
function manifestWith(path: string, value: unknown): string {
  return JSON.stringify(changed(tensorCache, path.split('.'), value));
}
function changed(node: unknown, [key, ...rest]: readonly string[], value: unknown): unknown {
  if (key === undefined) return value;
  const copy: Record<string, unknown> | unknown[] = Array.isArray(node)
    ? [...(node as unknown[])]
    : { ...(node as Record<string, unknown>) };
  Reflect.set(copy, key, changed(Reflect.get(copy, key), rest, value));
  return copy;
}

test('a good folder passes, and only the files that are needed go on', async () => {
  const files = goodFiles();
  const parts: number[] = [];
  const { problem, model } = await checkFolder(folderOf(files), gpu, (part) => parts.push(part));
  expect(problem).toBeNull();
  const sha = (name: string) =>
    createHash('sha256')
      .update(files.get(name) ?? '')
      .digest('hex');
  expect(model).toMatchObject({
    name: 'a model',
    bytes: 96,
    tensors: 3,
    contextTokens: 512,
    library: { name: 'model-webgpu.wasm', sha256: sha('model-webgpu.wasm') },
    manifest: { name: 'tensor-cache.json', sha256: sha('tensor-cache.json') },
    hasChecksums: true,
    needsF16: false,
  });
  expect(model?.files.map(({ name }) => name).sort()).toEqual(
    [...files.keys()].filter((name) => name !== 'README.md').sort(),
  );
  expect(parts.at(-1)).toBe(1);
});

test('the older name of the manifest, a SentencePiece tokenizer and missing sums are fine', async () => {
  const files = goodFiles();
  files.delete('tensor-cache.json');
  files.delete('tokenizer.json');
  files.set('tokenizer.model', 'x');
  const records = tensorCache.records.map((shard) => ({ ...shard, md5sum: undefined }));
  files.set('ndarray-cache.json', JSON.stringify({ records }));
  files.set('params_shard_0.bin', new Uint8Array(64)); // nothing says what should be in it
  const config = { ...chatConfig, tokenizer_files: ['tokenizer.model'] };
  files.set('mlc-chat-config.json', JSON.stringify(config));
  const { model } = await checkFolder(folderOf(files), gpu);
  expect(model).toMatchObject({ hasChecksums: false, manifest: { name: 'ndarray-cache.json' } });
});

describe('what is missing is named', () => {
  it.each([
    'mlc-chat-config.json',
    'tensor-cache.json',
    'tokenizer.json',
    'params_shard_0.bin',
    'params_shard_1.bin',
  ])('%s', async (name) => {
    const problem = await problemOf((files) => files.delete(name));
    expect(problem).toMatchObject({ kind: 'missing', file: name });
  });

  it('a library, or one too many', async () => {
    expect(await problemOf((files) => files.delete('model-webgpu.wasm'))).toMatchObject({
      kind: 'no-library',
    });
    const two = await problemOf((files) => files.set('other.wasm', library(tvmExports)));
    expect(two).toMatchObject({ kind: 'several-libraries' });
    expect(two?.detail).toContain('other.wasm');
  });
});

describe('a manifest that lies', () => {
  it('about a size', async () => {
    const short = await problemOf((files) => files.set('params_shard_1.bin', new Uint8Array(31)));
    expect(short).toEqual({ kind: 'size', file: 'params_shard_1.bin', detail: '31 ≠ 32' });
  });

  it('about the content, in one bit', async () => {
    const bytes = Uint8Array.from({ length: 64 }, (_, i) => (i === 40 ? 41 : i));
    const flipped = await problemOf((files) => files.set('params_shard_0.bin', bytes));
    expect(flipped).toMatchObject({ kind: 'checksum', file: 'params_shard_0.bin' });
  });

  it.each([
    '../params_shard_0.bin',
    '..',
    'a/b.bin',
    'a\\b.bin',
    '/etc/passwd',
    'https://elsewhere.test/x.bin',
    '%2e%2e%2fx.bin',
    'x.bin?y',
    'x.bin#y',
    '.hidden',
    '',
    'x\0.bin',
    'x'.repeat(300),
  ])('with the path %j', async (path) => {
    const problem = await problemOf((files) =>
      files.set('tensor-cache.json', manifestWith('records.0.dataPath', path)),
    );
    expect(problem).toMatchObject({ kind: 'bad-name', file: 'tensor-cache.json' });
  });

  it.each([
    ['records.1.dataPath', 'params_shard_0.bin'],
    ['records.1.dataPath', 'tokenizer.json'],
    ['records.1.dataPath', 'mlc-chat-config.json'],
    ['records.1.records.0.name', 'a'],
  ])('with one name for two things: %s is %s', async (path, value) => {
    const problem = await problemOf((files) =>
      files.set('tensor-cache.json', manifestWith(path, value)),
    );
    expect(problem).toEqual({ kind: 'twice', file: 'tensor-cache.json', detail: value });
  });

  it.each<readonly [string, unknown]>([
    ['records', []],
    ['records', { length: 1 }],
    ['records.0.nbytes', -1],
    ['records.0.nbytes', 0],
    ['records.0.nbytes', 1.5],
    ['records.0.nbytes', 2 ** 60],
    ['records.0.nbytes', '64'],
    ['records.0.md5sum', 'nothing'],
    ['records.0.format', 'zip'],
    ['records.0.records.0.byteOffset', 1],
    ['records.0.records.0.byteOffset', -4],
    ['records.0.records.0.nbytes', 65],
    ['records.0.records.0.nbytes', 60],
    ['records.0.records.0.shape', [4, 5]],
    ['records.0.records.0.shape', [2 ** 40, 2 ** 40]],
    ['records.0.records.0.shape', [-4, -4]],
    ['records.0.records.0.format', 'pickle'],
    ['records.1.records.1.nbytes', 32],
  ])('or makes no sense: %s is %j', async (path, value) => {
    const problem = await problemOf((files) =>
      files.set('tensor-cache.json', manifestWith(path, value)),
    );
    expect(problem).toMatchObject({ kind: 'manifest', file: 'tensor-cache.json' });
    expect(problem?.detail).not.toBe('');
  });

  it('about sizes that no device has', async () => {
    const huge = await problemOf((files) =>
      files.set('tensor-cache.json', manifestWith('records.0.nbytes', 2 ** 40)),
    );
    expect(huge).toMatchObject({ kind: 'too-large', file: 'params_shard_0.bin' });
  });

  it.each(['', '{', '[]', 'null', '<!doctype html>'])(
    'or is no manifest at all: %j',
    async (text) => {
      const problem = await problemOf((files) => files.set('tensor-cache.json', text));
      expect(problem).toMatchObject({ kind: 'manifest' });
    },
  );
});

describe('a conversation that cannot be written', () => {
  it.each<readonly [string, unknown]>([
    ['conv_template', 'llama-2'],
    ['conv_template.roles', { user: 'U' }],
    ['conv_template.seps', []],
    ['conv_template.system_template', 'no place for the message'],
    ['conv_template.stop_token_ids', ['x']],
    ['conv_template.stop_str', null],
    ['tokenizer_files', []],
    ['tokenizer_files', ['vocab.txt']],
    ['vocab_size', 0],
    ['context_window_size', 'long'],
    ['context_window_size', -1],
  ])('%s is %j', async (path, value) => {
    const config = JSON.stringify(changed(chatConfig, path.split('.'), value));
    const problem = await problemOf((files) => files.set('mlc-chat-config.json', config));
    expect(problem).toMatchObject({ kind: 'config', file: 'mlc-chat-config.json' });
    expect(problem?.detail).not.toBe('');
  });

  it('bytes that are no text', async () => {
    const problem = await problemOf((files) =>
      files.set('mlc-chat-config.json', Uint8Array.of(0xff, 0xfe, 0x00)),
    );
    expect(problem).toMatchObject({ kind: 'config', detail: 'UTF-8' });
  });
});

describe('a library', () => {
  const with_ = (bytes: string | Uint8Array<ArrayBuffer>, device = gpu) =>
    problemOf((files) => files.set('model-webgpu.wasm', bytes), device);

  it.each([
    ['text', '<!doctype html>'],
    ['nothing', ''],
    ['half of it', library(tvmExports).slice(0, 60)],
  ])('that is %s', async (_, bytes) => {
    expect(await with_(bytes)).toMatchObject({ kind: 'not-wasm', file: 'model-webgpu.wasm' });
  });

  it('that TVM did not make, or for a runtime of old', async () => {
    const other = await with_(library(['main']));
    expect(other).toMatchObject({ kind: 'not-tvm' });
    expect(other?.detail).toContain('TVMFFIFunctionCall');
    const old = library(['TVMWasmAllocSpace', 'TVMWasmFreeSpace', 'TVMFuncGetGlobal']);
    expect(await with_(old)).toMatchObject({ kind: 'old-library' });
  });

  it('that computes in halves wants a device that does', async () => {
    const halves = library(tvmExports, 'enable f16;\nfn main() {}');
    expect(await with_(halves)).toBeNull();
    const without: GpuFacts = { features: new Set(), limits };
    expect(await with_(halves, without)).toMatchObject({ kind: 'needs-f16' });
    expect(await with_(library(tvmExports), without)).toBeNull();
  });
});

describe('a device', () => {
  it('without WebGPU, and one below what the runtime asks for', async () => {
    expect(await problemOf(() => undefined, null)).toMatchObject({ kind: 'no-webgpu' });
    const small = { ...gpu, limits: { ...limits, maxComputeWorkgroupStorageSize: 16384 } };
    const problem = await problemOf(() => undefined, small);
    expect(problem).toMatchObject({ kind: 'gpu-too-small' });
    expect(problem?.detail).toBe('maxComputeWorkgroupStorageSize 16384 < 32768');
  });

  it('is looked at last: a bad folder is told of first', async () => {
    const problem = await problemOf((files) => files.delete('params_shard_1.bin'), null);
    expect(problem).toMatchObject({ kind: 'missing' });
  });
});

test('a file that can no longer be read is told so', async () => {
  const folder = folderOf(goodFiles());
  for (const { name, file } of folder.files) {
    if (name !== 'params_shard_1.bin') continue;
    file.stream = () =>
      new ReadableStream({
        pull: () => {
          throw new DOMException('changed', 'NotReadableError');
        },
      });
  }
  const { problem } = await checkFolder(folder, gpu);
  expect(problem).toEqual({ kind: 'unreadable', file: '', detail: 'NotReadableError' });
});
