import { expect, it, vi } from 'vitest';
import { dequantizeBlock } from '../format/dtype.ts';
import { blockBytes, columnsOf, parseManifest, qPlaneBytes, roundUp } from '../format/layout.ts';
import {
  MAX_SHARD_BYTES,
  TENSOR_ALIGNMENT,
  type Manifest,
  type ModelConfig,
  type TensorInfo,
} from '../format/manifest.ts';
import { baseTensors } from '../format/meaning.ts';
import { exampleManifest } from '../format/testing.ts';
import { softwareTuning } from '../gpu/tuning.ts';
import { Model } from './model.ts';
import { difference, openDevice, tolerance } from './testing.ts';

/** One layer and the table of Baichuan2-13B in their full size, on the limits every GPU has. */

vi.setConfig({ testTimeout: 300_000 });

const MIB = 1 << 20;
const config: ModelConfig = {
  architecture: 'baichuan2',
  vocab: 125_696,
  width: 5120,
  layers: 1,
  heads: 40,
  kvHeads: 40,
  headDim: 128,
  mlpWidth: 13_696,
  normEps: 1e-6,
  positions: { kind: 'alibi' },
  capacity: 4096,
  tiedHead: true, // one table of 684 MB serves as embedding and as head: the test keeps to 2 GB
};

/** A package of random bytes: no file is kept, each is made again whenever it is read. */
class WidePackage {
  readonly manifest: Manifest;
  readonly #random = new Uint32Array((MAX_SHARD_BYTES + MIB) / 4);

  constructor() {
    let state = 1;
    for (let i = 0; i < this.#random.length; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      this.#random[i] = state;
    }
    const tensors = place(baseTensors(config));
    const files = [...new Set(tensors.flatMap(({ blocks }) => blocks.map(({ file }) => file)))];
    const manifest = {
      ...exampleManifest(),
      config,
      tensors,
      files: [
        { name: 'tokenizer.json', bytes: 2, sha256: '0'.repeat(64) },
        ...files.map((name) => ({ name, bytes: MAX_SHARD_BYTES, sha256: '0'.repeat(64) })),
      ],
      adapter: null,
      knownAnswer: null,
    };
    this.manifest = parseManifest(new TextEncoder().encode(JSON.stringify(manifest)));
  }

  /** Random integers, scales that differ from group to group, norms of 1. */
  content(file: string): Uint8Array<ArrayBuffer> {
    const shift = (Number(file.slice(6, 11)) * 4096) % MIB;
    const bytes = new Uint8Array(this.#random.buffer.slice(shift, shift + MAX_SHARD_BYTES));
    for (const tensor of this.manifest.tensors) {
      for (const block of tensor.blocks) {
        if (block.file !== file) continue;
        const rows = block.rows[1] - block.rows[0];
        if (tensor.dtype === 'f32') {
          new Float32Array(bytes.buffer, block.offset, rows).fill(1);
          continue;
        }
        const columns = columnsOf(tensor);
        const plane = qPlaneBytes(tensor.dtype, rows, columns);
        const scales = new Uint16Array(bytes.buffer, block.offset + plane, (rows * columns) / 32);
        // Between 2^-9 and 2^-8 for 4 bits, 2^-12 and 2^-11 for 8: products stay near 1.
        const exponent = tensor.dtype === 'q4' ? 6 : 3;
        for (let i = 0; i < scales.length; i++) {
          scales[i] = (exponent << 10) | (Math.imul(i, 0x9e3779b1) >>> 22);
        }
      }
    }
    return bytes;
  }

  /** Rows [from, to) of W times x, in double precision. */
  product(name: string, x: ArrayLike<number>, from: number, to: number): Float64Array {
    const y = new Float64Array(to - from);
    this.#eachRow(name, from, to, (row, values) => {
      let sum = 0;
      for (let k = 0; k < values.length; k++) sum += (values[k] ?? 0) * (x[k] ?? 0);
      y[row - from] = sum;
    });
    return y;
  }

  row(name: string, wanted: number): Float32Array {
    let found = new Float32Array();
    this.#eachRow(name, wanted, wanted + 1, (_, values) => (found = values.slice()));
    return found;
  }

  #eachRow(
    name: string,
    from: number,
    to: number,
    visit: (row: number, values: Float32Array) => void,
  ): void {
    const tensor = this.manifest.tensors.find((one) => one.name === name);
    if (tensor === undefined) throw new Error(`no tensor ${name}`);
    const columns = columnsOf(tensor);
    for (const { file, offset, bytes, rows } of tensor.blocks) {
      if (rows[1] <= from || rows[0] >= to) continue;
      const block = this.content(file).subarray(offset, offset + bytes);
      const values = dequantizeBlock(tensor.dtype, block, rows[1] - rows[0], columns);
      for (let row = Math.max(from, rows[0]); row < Math.min(to, rows[1]); row++) {
        visit(row, values.subarray((row - rows[0]) * columns, (row - rows[0] + 1) * columns));
      }
    }
  }
}

/** Lays tensors into files of 16 MiB, cut into blocks of as many rows as fit. */
function place(tensors: ReturnType<typeof baseTensors>): TensorInfo[] {
  let [file, end] = [0, 0];
  return tensors.map(({ name, dtype, shape }) => {
    const rows = shape[0] ?? 0;
    const columns = columnsOf({ shape: [...shape] });
    const most = Math.floor(MAX_SHARD_BYTES / blockBytes(dtype, 32, columns)) * 32;
    const blocks: TensorInfo['blocks'] = [];
    for (let from = 0; from < rows; from += most) {
      const to = Math.min(rows, from + most);
      const bytes = blockBytes(dtype, to - from, columns);
      if (roundUp(end, TENSOR_ALIGNMENT) + bytes > MAX_SHARD_BYTES) [file, end] = [file + 1, 0];
      const offset = roundUp(end, TENSOR_ALIGNMENT);
      end = offset + bytes;
      const shard = `shard-${String(file).padStart(5, '0')}.bin`;
      blocks.push({ file: shard, offset, bytes, rows: [from, to] });
    }
    return { name, dtype, shape: [...shape], blocks };
  });
}

/** The norms' weights are 1. */
function normed(x: Float64Array): Float64Array {
  const squares = x.reduce((sum, value) => sum + value * value, 0);
  return x.map((value) => value / Math.sqrt(squares / x.length + config.normEps));
}

function add(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((value, i) => value + (b[i] ?? 0));
}

/** The layer for the first token of a sequence: it sees itself alone, so attention gives its value. */
function firstToken(pkg: WidePackage, embedded: Float32Array): Float64Array {
  const { width, mlpWidth } = config;
  const start = Float64Array.from(embedded);
  const value = pkg.product('layers.0.qkv', normed(start), 2 * width, 3 * width);
  const x = add(start, pkg.product('layers.0.attention_out', value, 0, width));
  const gateUp = pkg.product('layers.0.gate_up', normed(x), 0, 2 * mlpWidth);
  const inner = gateUp.subarray(0, mlpWidth).map((gate, i) => {
    return (gate / (1 + Math.exp(-gate))) * (gateUp[mlpWidth + i] ?? 0);
  });
  return add(x, pkg.product('layers.0.down', inner, 0, width));
}

it('a layer and the head of Baichuan2-13B fit default limits and compute what they should', async () => {
  const pkg = new WidePackage();
  const device = await openDevice({ variant: 'f32', tuning: softwareTuning });
  expect(device.device.limits.maxStorageBufferBindingSize).toBe(128 * MIB);
  expect(device.device.limits.maxBufferSize).toBe(256 * MIB);
  const create = vi.spyOn(device.device, 'createBuffer');
  const read = (file: string) => Promise.resolve(pkg.content(file));
  const model = await Model.load(device, pkg.manifest, read);
  const sizes = create.mock.calls.map(([{ size }]) => size);
  expect(Math.max(...sizes)).toBeLessThanOrEqual(128 * MIB);
  expect(create.mock.calls.filter(([{ label }]) => label === 'embed').length).toBe(6);

  const tokens = [125_695, 3, 61_440]; // of the last part, the first, one between
  const { logits, hidden } = await model.trace(tokens);
  const [embedded, after] = hidden;
  if (embedded === undefined || after === undefined) throw new Error('no hidden states');
  const { width, vocab } = config;
  tokens.forEach((token, t) => {
    expect(embedded.subarray(t * width, (t + 1) * width)).toEqual(pkg.row('embed', token));
  });
  expect(after.every(Number.isFinite)).toBe(true);
  const expected = firstToken(pkg, embedded.subarray(0, width));
  expect(difference(after.subarray(0, width), expected)).toBeLessThan(tolerance.f32);

  expect(logits.length).toBe(tokens.length * vocab);
  expect(logits.every(Number.isFinite)).toBe(true);
  // Both sides of a cut between parts, and the ends.
  for (const row of [0, 24_575, 24_576, 61_441, 122_880, 125_695]) {
    tokens.forEach((_, t) => {
      const x = normed(Float64Array.from(after.subarray(t * width, (t + 1) * width)));
      const [logit = NaN] = pkg.product('embed', x, row, row + 1);
      expect(Math.abs((logits[t * vocab + row] ?? NaN) - logit)).toBeLessThan(1e-4);
    });
  }
  model.dispose();
});
