import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { halfToFloat } from '../format/dtype.ts';
import { checkFolder, type GpuFacts } from '../peer/check.ts';
import { readManifest } from '../peer/formats.ts';
import { library as wasm, tvmExports } from '../peer/testing.ts';
import { writeMlcFolder } from './mlc-folder.ts';
import { checkAdapter, findMetadata, readMlcLibrary } from './mlc-library.ts';
import { mlcRows } from './mlc-rows.ts';
import { modelOf, type AskedShape, type MlcTensor } from './mlc-shape.ts';
import { mlcLibrary, mlcMetadata, SMALL } from './mlc-testing.ts';

const TOKENIZER = fileURLToPath(
  new URL('../../public/models/nano/tokenizer.json', import.meta.url),
);
const folders: string[] = [];
afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true });
});
async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'bench-mlc-'));
  folders.push(path);
  return path;
}
async function onDisk(bytes: Uint8Array, name = 'small-webgpu.wasm'): Promise<string> {
  const path = join(await folder(), name);
  await writeFile(path, bytes);
  return path;
}
const small = mlcMetadata('qwen2', SMALL, 'q4f32_1');
/** As a library is read: what is not looked at stays. */
const read = (metadata: object) => findMetadata(mlcLibrary(metadata), 'x.wasm');
const model = (metadata: object, asked: AskedShape = {}) => modelOf(read(metadata), asked);

describe('the metadata of a library', () => {
  it.each([0, 1, 2, 3, 7, 100, 199, 1021])('is found behind %i other bytes', (before) => {
    expect(findMetadata(mlcLibrary(small, before), 'x.wasm')).toEqual(small);
  });

  it('may stand there twice, if it says the same', () => {
    const json = JSON.stringify(small);
    const text = (one: string, other: string) =>
      findMetadata(wasm(tvmExports, `${one}\u0001${other}`), 'x.wasm');
    expect(text(json, json)).toEqual(small);
    const other = JSON.stringify({ ...small, quantization: 'q4f16_1' });
    expect(() => text(json, other)).toThrow(/x\.wasm has different metadata at bytes \d+ and \d+/);
  });

  it('is missing, is cut, or is of something else', () => {
    expect(() => findMetadata(wasm(tvmExports, '{"name":"x"}'), 'x.wasm')).toThrow(
      /x\.wasm holds no text with "quantization" and "params"/,
    );
    const whole = mlcLibrary(small);
    const start = Buffer.from(whole).indexOf('{"model_type"');
    const end = whole.length - 5; // of the text, before its NUL and what follows
    expect(() => findMetadata(whole.subarray(0, end - 1), 'x.wasm')).toThrow(
      `x.wasm has metadata at byte ${start} that break off`,
    );
    const holed = whole.slice();
    holed[end - 20] = 0;
    expect(() => findMetadata(holed, 'x.wasm')).toThrow(/that break off/);
    expect(() => read({ ...small, prefill_chunk_size: 0 })).toThrow(/byte \d+: prefill_chunk_size/);
    expect(() => read({ ...small, params: [{ name: 'a', shape: [-1], dtype: 'uint32' }] })).toThrow(
      /params\.0\.shape\.0/,
    );
  });

  it('needs a file that web-llm could load', async () => {
    await expect(readMlcLibrary(await onDisk(Buffer.from('no')))).rejects.toThrow(
      'small-webgpu.wasm is no WebAssembly',
    );
    const old = await onDisk(wasm(['TVMFuncGetGlobal'], JSON.stringify(small)));
    await expect(readMlcLibrary(old)).rejects.toThrow(
      /web-llm 0\.2\.79 or older.*TVMWasmAllocSpace/,
    );
    const good = await readMlcLibrary(await onDisk(mlcLibrary(small, 5)));
    expect(good).toMatchObject({ name: 'small-webgpu.wasm', needsF16: false, metadata: small });
    expect(good.sha256).toMatch(/^[0-9a-f]{64}$/);
  });
});

describe('the adapter', () => {
  const adapter = { name: 'swift', f16: false, maxBufferSize: 2 ** 28, maxStorageBufferBindingSize: 2 ** 27 }; // prettier-ignore

  it('has to have halves where the format or the shaders have them', async () => {
    const halves = mlcMetadata('qwen2', SMALL, 'q4f16_1');
    const library = await readMlcLibrary(await onDisk(mlcLibrary(halves)));
    expect(() => checkAdapter(library, adapter, 1)).toThrow(
      /swift lacks shader-f16: .*--hardware, or a library compiled as q4f32_1/,
    );
    checkAdapter(library, { ...adapter, f16: true }, 1);
    const shaders = `enable f16;\u0000${JSON.stringify(small)}`;
    const hidden = await readMlcLibrary(await onDisk(wasm(tvmExports, shaders)));
    expect(() => checkAdapter(hidden, adapter, 1)).toThrow(/shader-f16/);
  });

  it('has to hold the largest parameter in what web-llm asks for', async () => {
    const library = await readMlcLibrary(await onDisk(mlcLibrary(small)));
    checkAdapter(library, adapter, 2 ** 27);
    const more = { ...adapter, maxBufferSize: 2 ** 30, maxStorageBufferBindingSize: 2 ** 29 };
    expect(() => checkAdapter(library, more, 2 ** 27 + 4)).toThrow(
      /swift gives web-llm 134217728 \(maxStorageBufferBindingSize\)/,
    );
    checkAdapter(library, { ...more, maxStorageBufferBindingSize: 2 ** 30 }, 2 ** 30);
    expect(() => checkAdapter(library, { ...adapter, maxBufferSize: 1 }, 1)).toThrow(
      /maxBufferSize/,
    );
  });
});

describe('the shape', () => {
  it('of Qwen2-0.5B, q4f16_1, with the embedding for a head', () => {
    const sizes = { vocab: 151_936, width: 896, mlpWidth: 4864, layers: 24, heads: 14, kvHeads: 2 };
    const { shape, tied, tensors, notes } = model(mlcMetadata('qwen2', sizes, 'q4f16_1'));
    expect([shape, tied, notes]).toEqual([sizes, true, []]);
    expect(tensors).toHaveLength(2 + 24 * 11 + 1);
    // 4.5 bits of every weight of a matrix, 2 bytes of those in norms and biases.
    const matrices = 151_936 * 896 + 24 * (1152 * 896 + 896 * 896 + 3 * 4864 * 896);
    const total = tensors.reduce((sum, { bytes }) => sum + bytes, 0);
    expect(total).toBe((matrices * 4.5) / 8 + 2 * (24 * (1152 + 2 * 896) + 896));
  });

  it.each(['q4f32_1', 'q4f32_0', 'q4f16_2'])(
    'of a Llama, %s, that leaves its vocabulary open',
    (format) => {
      const sizes = {
        vocab: 32_000,
        width: 2048,
        mlpWidth: 5632,
        layers: 22,
        heads: 32,
        kvHeads: 4,
      };
      const metadata = mlcMetadata('llama', { ...sizes, vocab: 'vocab_size' }, format);
      expect(() => model(metadata)).toThrow(/vocab_size open: say it with --vocab/);
      const { shape, tied } = model(metadata, { vocab: 32_000 });
      expect([shape, tied]).toEqual([sizes, false]);
    },
  );

  it('takes heads from the command line only where the library does not tell them', () => {
    const silent = { ...mlcMetadata('llama', SMALL, 'q4f32_1'), kv_cache: undefined };
    expect(() => model(silent)).toThrow(/say them with --heads/);
    const { shape, notes } = model(silent, { heads: 2 });
    expect(shape).toEqual(SMALL);
    expect(notes.join()).toContain('--heads');
    expect(() => model(silent, { heads: 3 })).toThrow(/3 heads do not go with 128 rows/);
    expect(() => model(small, { heads: 4 })).toThrow('heads 4 was asked for, the library has 2');
  });

  it('with matrices apart, and with one that is not packed', () => {
    const { params } = small;
    const apart = params.flatMap((param) => {
      const rows = Number(param.shape[0]);
      const cut = (names: Record<string, number>, from: string) =>
        Object.entries(names).map(([to, part]) => ({ ...param, name: param.name.replace(from, to), shape: [part, ...param.shape.slice(1)] })); // prettier-ignore
      if (param.name.includes('c_attn')) return cut({ q_proj: 64, k_proj: 32, v_proj: 32 }, 'c_attn'); // prettier-ignore
      if (param.name.includes('gate_up')) return cut({ gate_proj: rows / 2, up_proj: rows / 2 }, 'gate_up_proj'); // prettier-ignore
      if (param.name === 'model.embed_tokens.q_scale') return [];
      if (param.name !== 'model.embed_tokens.q_weight') return [param];
      return [{ ...param, name: 'model.embed_tokens.weight', shape: [96, 64], dtype: 'float32' }];
    });
    expect(model({ ...small, params: apart }).shape).toEqual(SMALL);
  });

  const changed = (name: string, change: object) => ({
    ...small,
    params: small.params.map((param) => (param.name === name ? { ...param, ...change } : param)),
  });
  it.each([
    [
      'a scale too few',
      changed('model.layers.1.mlp.down_proj.q_scale', { shape: [64, 2] }),
      /layers\.1\.mlp\.down_proj: .* no 4-bit numbers/,
    ],
    [
      'another width',
      changed('model.embed_tokens.q_weight', { shape: [96, 4] }),
      /model\.embed_tokens: /,
    ],
    [
      'a layer unlike the first',
      mlcWith('model.layers.1.mlp.gate_up_proj', 160),
      /model\.layers\.1 has matrices that do not go together/,
    ],
    [
      'a type nobody knows',
      changed('model.norm.weight', { dtype: 'bfloat16' }),
      /model\.norm\.weight is of the unknown type bfloat16/,
    ],
    ['a size nobody knows', changed('model.norm.weight', { shape: ['n'] }), /unknown size n/],
    [
      'one name twice',
      changed('model.norm.weight', { name: 'model.embed_tokens.q_scale' }),
      /stands there twice/,
    ],
    [
      'more layers than said',
      { ...small, kv_cache: { ...small.kv_cache, num_hidden_layers: 3 } },
      /num_hidden_layers is 3, the parameters come to 2/,
    ],
    [
      'other key heads',
      { ...small, kv_cache: { ...small.kv_cache, num_key_value_heads: 2 } },
      /num_key_value_heads is 2, the parameters come to 1/,
    ],
    ['3 bits', { ...small, quantization: 'q3f16_1' }, /quantization q3f16_1/],
    ['several GPUs', { ...small, tensor_parallel_shards: 2 }, /tensor_parallel_shards 2/],
    [
      'a state that is no cache',
      { ...small, kv_state_kind: 'rnn_state' },
      /kv_state_kind rnn_state/,
    ],
    [
      'experts',
      {
        ...small,
        params: small.params.map((param) => ({
          ...param,
          name: param.name.replace('mlp.', 'moe.'),
        })),
      },
      /no parameter model\.layers\.0\.mlp\.gate_proj or .*known: Llama/,
    ],
  ])('that lies or is of another kind is refused: %s', (_, metadata, message) => {
    // prettier-ignore
    expect(() => model(metadata)).toThrow(message);
  });
});

/** A packed matrix of layer 1 with other rows. */
function mlcWith(stem: string, rows: number) {
  const params = small.params.map((param) =>
    param.name.startsWith(`${stem}.`)
      ? { ...param, shape: [rows, ...param.shape.slice(1)] }
      : param,
  );
  return { ...small, params };
}

describe('the folder', () => {
  const gpu: GpuFacts = {
    features: new Set(['shader-f16']),
    limits: {
      maxBufferSize: 2 ** 30,
      maxStorageBufferBindingSize: 2 ** 30,
      maxComputeWorkgroupStorageSize: 2 ** 15,
      maxStorageBuffersPerShaderStage: 10,
    },
  };

  async function make(cache: string, metadata: object, seed: number) {
    const library = await readMlcLibrary(await onDisk(mlcLibrary(metadata)));
    const made = modelOf(library.metadata, {});
    const options = { library, model: made, seed, capacity: 256, tokenizer: TOKENIZER, shardBytes: 1 << 20 }; // prettier-ignore
    const files = join(await writeMlcFolder(cache, options), 'resolve/main');
    const contents = new Map<string, Buffer<ArrayBuffer>>();
    for (const name of await readdir(files)) {
      contents.set(name, await readFile(join(files, name)));
    }
    return { files, contents, model: made };
  }

  it.each(['q4f32_1', 'q4f16_1', 'q4f16_0'])(
    'of %s passes every check, with the bytes that its parameters need',
    async (format) => {
      const sizes = { ...SMALL, vocab: 4099, width: 1024, mlpWidth: 1056, heads: 16, kvHeads: 2, layers: 1 }; // prettier-ignore
      const metadata = mlcMetadata('llama', sizes, format);
      const { contents, model: made } = await make(await folder(), metadata, 5);
      const files = [...contents].map(([name, bytes]) => ({ name, file: new File([bytes], name) }));
      const { problem, model: checked } = await checkFolder({ name: 'm', files }, gpu);
      expect(problem).toBeNull();
      const total = made.tensors.reduce((sum, { bytes }) => sum + bytes, 0);
      expect(checked).toMatchObject({
        bytes: total,
        tensors: metadata.params.length,
        contextTokens: 256,
        hasChecksums: true,
        needsF16: false, // no shaders in it
      });
      const shards = [...contents.keys()].filter((name) => name.endsWith('.bin'));
      expect(shards.length).toBeGreaterThan(2);
      expect(shards.reduce((sum, name) => sum + (contents.get(name)?.length ?? 0), 0)).toBe(total);
    },
  );

  it('is the same for a seed, another for another, and not made twice', async () => {
    const [one, again, other] = [await folder(), await folder(), await folder()];
    const first = await make(one, small, 3);
    const shard = (made: typeof first) => made.contents.get('params_shard_0.bin');
    expect(shard(await make(again, small, 3))).toEqual(shard(first));
    expect(shard(await make(other, small, 4))).not.toEqual(shard(first));
    await writeFile(join(first.files, 'params_shard_0.bin'), 'kept');
    expect(shard(await make(one, small, 3))?.toString()).toBe('kept');
    await rm(join(first.files, 'tensor-cache.json')); // as if it had been cut off
    expect(shard(await make(one, small, 3))).toEqual(shard(first));
  });

  it.each(['q4f32_1', 'q4f16_1'])(
    'of %s holds numbers of a size that keeps logits finite',
    async (format) => {
      const { contents, model: made } = await make(
        await folder(),
        mlcMetadata('llama', SMALL, format),
        1,
      );
      const listed = readManifest(contents.get('tensor-cache.json')?.toString() ?? '');
      if ('wrong' in listed) throw new Error(listed.wrong);
      const bytesOf = (name: string) => {
        for (const { dataPath, records } of listed.value) {
          const found = records.find((record) => record.name === name);
          const { byteOffset = 0, nbytes = 0 } = found ?? {};
          if (found) return new Uint8Array(contents.get(dataPath) ?? []).slice(byteOffset, byteOffset + nbytes); // prettier-ignore
        }
        throw new Error(name);
      };
      const floats = ({ name, dtype }: MlcTensor): number[] => {
        const { buffer } = bytesOf(name);
        return dtype === 'float16' ? [...new Uint16Array(buffer)].map(halfToFloat) : [...new Float32Array(buffer)]; // prettier-ignore
      };
      for (const tensor of made.tensors.filter(({ dtype }) => dtype !== 'uint32')) {
        const values = floats(tensor);
        expect(values.every(Number.isFinite), tensor.name).toBe(true);
        if (tensor.name.includes('norm')) expect(new Set(values)).toEqual(new Set([1]));
      }
      const scale = made.tensors.find(
        ({ name }) => name === 'model.layers.0.mlp.down_proj.q_scale',
      );
      const scales = scale === undefined ? [] : floats(scale);
      const words = new Uint32Array(bytesOf('model.layers.0.mlp.down_proj.q_weight').buffer);
      const weights = [...words].flatMap((word, i) =>
        Array.from(
          { length: 8 },
          (_, k) => (((word >>> (4 * k)) & 15) - 7) * (scales[i >> 2] ?? NaN),
        ),
      );
      const mean = weights.reduce((sum, value) => sum + value, 0) / weights.length;
      const size = Math.sqrt(weights.reduce((sum, value) => sum + value ** 2, 0) / weights.length);
      expect(weights).toHaveLength(SMALL.width * SMALL.mlpWidth);
      expect(size * Math.sqrt(SMALL.mlpWidth)).toBeGreaterThan(0.8);
      expect(size * Math.sqrt(SMALL.mlpWidth)).toBeLessThan(1.2);
      expect(Math.abs(mean)).toBeLessThan(0.1 * size);
    },
  );
});

describe('rows', () => {
  it('are medians by the clock, and name the library', () => {
    const samples = {
      'ours prefill': [10, 20, 40],
      'web-llm prefill': [40],
      'ours decode 8': [2],
      'web-llm decode 8': [1, 1, 9],
    };
    const rows = mlcRows(samples, { promptTokens: 100, contexts: [8] }, 'web-llm 1 (a, sha256 b)');
    expect(rows).toMatchObject([
      { name: 'prefill of 100 tokens', ours: 5000, peer: 2500, ratio: 2 },
      { name: 'decode after 8 tokens', ours: 500, peer: 1000, ratio: 0.5 },
    ]);
    expect(rows.every(({ peerName }) => peerName === 'web-llm 1 (a, sha256 b)')).toBe(true);
    expect(() => mlcRows(samples, { promptTokens: 1, contexts: [9] }, 'x')).toThrow(
      'ours decode 9',
    );
  });
});
