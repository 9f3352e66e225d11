import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { decoderGraph } from '../onnx/decoder.ts';
import { blockReader, readManifest } from '../../convert/reader.ts';
import { Reference } from '../../convert/reference.ts';
import { verify } from '../../convert/verify.ts';
import type { TensorBlock } from '../format/manifest.ts';
import { repeated, sharesOf, workOf } from '../node/bench-work.ts';
import { contextBars, pageBars } from './bars.ts';
import { benchTokens } from './engine.ts';
import { contextResult } from './node-rows.ts';
import { rowsOf } from './page-rows.ts';
import { withoutAdapter } from './page/package.ts';
import { memoryPackage, randomPackage, type Shape } from './random-model.ts';
import { writeDocs } from './report.ts';
import { median, rateRow, relativeDifference, timeRow, type BenchResult } from './rows.ts';

const shape: Shape = {
  vocab: 96,
  width: 64,
  layers: 2,
  heads: 2,
  kvHeads: 1,
  mlpWidth: 96,
  capacity: 32,
  adapterRank: 8,
  seed: 3,
};
const folders: string[] = [];
afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true });
});
async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'bench-'));
  folders.push(path);
  return path;
}

describe('a random package', () => {
  it('is whole, and its logits are finite and of a size that means something', async () => {
    const path = await randomPackage(await folder(), shape);
    const findings = await verify(path, { recompute: false });
    const wrong = findings.filter(({ ok }) => !ok).map(({ what }) => what);
    expect(wrong.filter((what) => !/known answers|tokenizer/.test(what))).toEqual([]);
    const manifest = await readManifest(path);
    const logits = async (model: typeof manifest): Promise<Float64Array> => {
      const reference = new Reference(model, blockReader(path));
      const tokens = benchTokens(5, shape.vocab);
      const rows = await reference.forward([{ sequence: reference.start('medkqa'), tokens }]);
      return rows.at(-1) ?? new Float64Array();
    };
    const whole = await logits(manifest);
    expect(Math.max(...whole)).toBeGreaterThan(1);
    expect(Math.max(...whole.map(Math.abs))).toBeLessThan(30);
    expect(relativeDifference([...(await logits(withoutAdapter(manifest)))], [...whole])).toBeGreaterThan(0.01); // prettier-ignore
  });

  it('is made once for a shape and a seed', async () => {
    const cache = await folder();
    const first = await randomPackage(cache, shape);
    const bytes = await readFile(join(first, 'shard-00000.bin'));
    expect(await randomPackage(cache, shape)).toBe(first);
    const again = await randomPackage(await folder(), shape);
    expect(await readFile(join(again, 'shard-00000.bin'))).toEqual(bytes);
    const other = await randomPackage(cache, { ...shape, seed: 4 });
    expect(await readFile(join(other, 'shard-00000.bin'))).not.toEqual(bytes);
  });

  it('means the same in memory', async () => {
    const path = await randomPackage(await folder(), shape);
    const { manifest, read } = memoryPackage(shape);
    const tokens = benchTokens(4, shape.vocab);
    const fromMemory = new Reference(manifest, async ({ file, offset, bytes }: TensorBlock) =>
      (await read(file)).subarray(offset, offset + bytes),
    );
    const fromDisk = new Reference(await readManifest(path), blockReader(path));
    const [one, other] = await Promise.all(
      [fromMemory, fromDisk].map((reference) =>
        reference.forward([{ sequence: reference.start('evidiag'), tokens }]),
      ),
    );
    expect(one).toEqual(other);
    expect(decoderGraph(manifest, {}).node.length).toBeGreaterThan(20);
  });
});

describe('work of a pass', () => {
  it('counts every weight once and gives parts of the limits', () => {
    const { manifest } = memoryPackage(shape);
    const work = workOf(manifest, 3, 5, 4);
    const weights = 2 * (64 * 128 + 64 * 64 + 3 * 64 * 96); // q, k and v of 2 + 2 * 1 heads of 32
    expect(work.get('4-bit matrices')).toEqual({
      bytes: (weights * 4.5) / 8,
      flops: 2 * 3 * weights,
    });
    expect(work.get('head')).toEqual({ bytes: (96 * 64 * 8.5) / 8, flops: 2 * 96 * 64 });
    expect(work.get('attention')).toEqual({ bytes: 2 * 2 * 8 * 32 * 4, flops: 4 * 2 * 64 * (6 + 7 + 8) }); // prettier-ignore
    const times = new Map([
      ['matvec_q4', { ms: 1, dispatches: 6 }],
      ['matmul_q4', { ms: 1, dispatches: 2 }],
      ['rope', { ms: 2, dispatches: 2 }],
    ]);
    const peaks = { readGBs: 1, f32Gflops: 2, dispatchUs: 1 };
    const [rope, matrices] = sharesOf(times, work, peaks).toSorted((a, b) => a.dispatches - b.dispatches); // prettier-ignore
    expect(rope).toMatchObject({ kind: 'rope', share: 0.5, gbs: null });
    const gflops = (6 * weights) / 2e6;
    expect(matrices).toMatchObject({ kernels: ['matvec_q4', 'matmul_q4'], dispatches: 8, ms: 2 });
    expect(matrices?.gflops).toBeCloseTo(gflops, 3);
    expect(matrices?.ofFma).toBeCloseTo(gflops / 2, 3);
  });
});

describe('rows', () => {
  it('say how many times as good ours is, for times and for rates', () => {
    expect(timeRow('a', 2, 6, 'peer')).toMatchObject({ ratio: 3, unit: 'ms' });
    expect(rateRow('b', 'tokens/s', 2, 6, 'peer')).toMatchObject({ ratio: 0.333 });
    expect(rateRow('c', 'x', 2)).toMatchObject({ peer: null, peerName: null, ratio: null });
    expect([median([3, 1, 2]), median([4, 1, 2, 3])]).toEqual([2, 2.5]);
    expect(() => median([])).toThrow('nothing was measured');
  });

  it('let no other numbers pass', () => {
    expect(relativeDifference([1, 2.1], [1, 2])).toBeCloseTo(0.1 / Math.sqrt(2.5), 6);
    expect(relativeDifference([1, NaN], [1, 2])).toBeNaN();
    expect(relativeDifference([], [1])).toBe(Infinity);
  });

  it('hold ours against the better accuracy of the peer', () => {
    const samples: Record<string, number[]> = {};
    const all = { ours: 1, 'ort-webgpu': 4, 'ort-webgpu-int8': 2, 'ort-wasm': 3 };
    for (const [engine, ms] of Object.entries(all)) {
      for (const what of ['matmuls 1', 'matmuls 8', 'prefill', 'decode 8', 'decode 16']) {
        samples[`${engine} ${what}`] = [ms, 100 * ms, ms];
      }
    }
    samples['ours decode 8 beside 16'] = [0.8];
    samples['ours adapter with'] = [1.05];
    samples['ours adapter without'] = [1];
    samples['ours task switch'] = [0.1];
    const rows = rowsOf(samples, {
      shape,
      engines: ['ours', 'ort-webgpu', 'ort-webgpu-int8', 'ort-wasm'],
      contexts: [8, 16],
      promptTokens: 8,
    });
    expect(rows.find(({ name }) => name === 'prefill of 8 tokens')).toMatchObject({
      ours: 8000,
      peer: 4000,
      peerName: 'ORT WebGPU, accuracy level 4',
      ratio: 2,
    });
    expect(rows.filter(({ peerName }) => peerName === 'ORT WASM').map(({ ratio }) => ratio)).toEqual([3, 3, 3, 3, 3]); // prettier-ignore
    expect(rows.find(({ unit }) => unit === 'x')?.ours).toBe(0.8);
    expect(rows.find(({ unit }) => unit === '%')?.ours).toBe(5);
  });
});

describe('a long cache', () => {
  const config = { ...memoryPackage(shape).manifest.config, layers: 2, kvHeads: 2, headDim: 4 };

  it('repeats the positions of a short one, layer by layer', () => {
    // Keys, then values, of two layers: three positions of two heads of four f16 numbers.
    const rows = Uint8Array.from({ length: 4 * 3 * 16 }, (_, i) => i);
    const all = repeated(rows, { config }, 'elem', 3, 8);
    expect(all.length).toBe(4 * 8 * 16);
    for (const [i, byte] of all.entries()) {
      const [part, position, at] = [Math.floor(i / 128), Math.floor((i % 128) / 16), i % 16];
      expect(byte).toBe(part * 48 + (position % 3) * 16 + at);
    }
  });

  it('of 8 bits repeats bytes and scales apart', () => {
    const rows = Uint8Array.from({ length: 4 * 3 * 16 }, (_, i) => i);
    const all = repeated(rows, { config }, 'int8', 3, 4);
    const side = (part: number) => [...all.subarray(part * 64, part * 64 + 64)];
    const from = (start: number) => Array.from({ length: 24 }, (_, i) => start + i);
    for (let part = 0; part < 4; part++) {
      const [bytes, scales] = [from(part * 48), from(part * 48 + 24)];
      expect(side(part)).toEqual([...bytes, ...bytes.slice(0, 8), ...scales, ...scales.slice(0, 8)]); // prettier-ignore
    }
  });
});

describe('bars', () => {
  it('hold a page against ORT WebGPU, and our adapter against itself', () => {
    const rows = [
      rateRow('matmuls alone, one token', 'GFLOP/s', 9, 1, 'ORT WebGPU'),
      rateRow('matmuls alone, one token', 'GFLOP/s', 9, 3, 'ORT WASM'),
      rateRow('matmuls alone, 64 tokens', 'GFLOP/s', 3, 2, 'ORT WebGPU'),
      rateRow('prefill of 64 tokens', 'tokens/s', 14, 10, 'ORT WebGPU, accuracy level 4'),
      { ...timeRow('adapter of rank 32 on gate, up and down: decode takes more', 5), unit: '%' },
      timeRow('switch of the task', 21),
    ];
    expect(pageBars(rows).map(({ measured, met }) => [measured, met])).toEqual([
      [9, true],
      [1.5, true],
      [1.4, false],
      [5, true],
      [21, false],
    ]);
    expect(pageBars([]).every(({ met }) => !met)).toBe(true);
  });

  it('hold decoding in Node after many tokens against few, and f16 against f32', () => {
    const one = { prefill: 10, short: 4, long: 3, ratio: 0.75, samples: { short: [], long: [] } };
    const bench = {
      adapter: 'some',
      driver: 'some',
      cases: [
        { ...one, variant: 'f32', cache: 'elem' },
        { ...one, variant: 'f16', cache: 'elem', prefill: 12, short: 3.8, ratio: 0.8 },
        { ...one, variant: 'f16', cache: 'int8', ratio: NaN },
      ],
    } as const;
    const { rows } = contextResult(bench, { short: 64, long: 2048 }, {}, 'x');
    expect(contextBars(rows).map(({ what, measured, met }) => [what, measured, met])).toEqual([
      ['decode after 2048 as a part of that after 64, f32', 0.75, false],
      ['decode after 64 tokens, f16, of f32', 0.95, false],
      ['decode after 2048 as a part of that after 64, f16', 0.8, true],
      ['prefill of 64 tokens, f16, of f32', 1.2, true],
      ['decode after 2048 as a part of that after 64, f16, cache of 8 bits', NaN, false],
    ]);
  });
});

describe('the documents', () => {
  it('keep other runs and the words around the figures', async () => {
    const path = await folder();
    const run = (command: string, ours: number): BenchResult => ({
      date: '2026-01-02T00:00:00Z',
      machine: { cpu: 'some' },
      model: { width: 64 },
      command,
      differences: {},
      rows: [timeRow('one thing', ours, 6, 'peer <a>')],
      bars: [{ what: 'a bar', measured: ours, bar: 'at most 2 ms', met: ours <= 2 }],
      samples: {},
    });
    await writeDocs(path, 'page', run('first', 2));
    await writeDocs(path, 'node', run('second', 3));
    await writeDocs(path, 'page', run('third', 1));
    const text = await readFile(join(path, 'bench.md'), 'utf8');
    expect(text).toMatch(/^# Measured/);
    expect(text).not.toContain('first');
    expect(text).toContain('`second`');
    expect(text.replaceAll(/ +/g, ' ')).toContain('| one thing | 1 ms | 6 ms | peer <a> | 6× |');
    expect(text).toContain('| a bar | 3 | at most 2 ms | no |');
    expect(text).toContain('| a bar | 1 | at most 2 ms | yes |');
    expect(await readFile(join(path, 'bench.svg'), 'utf8')).toContain(
      'one thing, peer &#60;a&#62;',
    );
  });
});
