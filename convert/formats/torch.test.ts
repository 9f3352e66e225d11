import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseSafetensors } from '../../src/format/safetensors.ts';
import { failure } from '../testing-run.ts';
import type { ByteSource } from './stored.ts';
import { memorySource, zipOf } from './testing.ts';
import { openTorch } from './torch.ts';
import { openZip } from './zip.ts';

/** Files that PyTorch wrote: see fixtures/make_torch.py. */
const fixture = (name: string): Uint8Array =>
  readFileSync(new URL(`../fixtures/torch/${name}`, import.meta.url));
const open = (name: string) => openTorch(memorySource(fixture(name)));

/** Every tensor of a .bin against the same tensors in safetensors, in steps of some rows. */
async function compare(name: string, expected: string, step: number): Promise<number> {
  const tensors = await open(name);
  const wanted = parseSafetensors(fixture(expected));
  expect([...tensors.keys()].sort()).toEqual([...wanted.keys()].sort());
  for (const [key, { dtype, shape, bytes }] of wanted) {
    const tensor = tensors.get(key);
    expect([tensor?.dtype, tensor?.shape], key).toEqual([dtype, shape]);
    const rows = shape[0] ?? 1;
    const parts: number[] = [];
    for (let from = 0; from < rows; from += step) {
      parts.push(...((await tensor?.rowBytes(from, Math.min(rows, from + step))) ?? []));
    }
    expect(parts, key).toEqual([...bytes]);
  }
  return wanted.size;
}

describe('a file of PyTorch', () => {
  it.each(['views.bin', 'views-protocol4.bin'])(
    'gives every view of %s as PyTorch itself does, in steps of any size',
    async (name) => {
      for (const step of [1, 3, 100])
        expect(await compare(name, 'views.safetensors', step)).toBe(17);
    },
  );

  it('gives a state_dict with its metadata', async () => {
    expect(await compare('state-dict.bin', 'state-dict.safetensors', 100)).toBe(4);
  });

  it.each([
    ['legacy.bin', /a file of PyTorch before 1\.6; write it anew/],
    ['nested.bin', /entry state_dict is no tensor; save model\.state_dict\(\) alone/],
    ['harmful.bin', /posix\.system is no class or function of a table .* nothing of this file was/],
    ['complex.bin', /torch\.ComplexFloatStorage is no class/],
    ['module.bin', /torch\.nn\.modules\.linear\.Linear is no class/],
    ['model.safetensors', /no zip archive, so not a file of torch\.save/],
  ])('%s is refused in words', async (name, message) => {
    const text = await failure(open(name));
    expect(text).toMatch(/^BadCheckpoint: /);
    expect(text).toMatch(message);
  });

  it('is refused wherever it ends too early', async () => {
    const bytes = fixture('views.bin');
    for (let end = 0; end < bytes.length; end += 7) {
      const text = await failure(openTorch(memorySource(bytes.subarray(0, end))));
      expect(text, `${end} bytes`).toMatch(/^BadCheckpoint: /);
    }
  });

  it('is read where it lies: a row of a large storage costs no more than a row', async () => {
    const rows = 1 << 12;
    const numbers = new Uint8Array(rows * 64 * 4).map((_, i) => i);
    const pickle = pickledView(rows * 64, 0, [rows, 64], [64, 1]);
    const file = zipOf({ 'x/data.pkl': pickle, 'x/data/0': numbers });
    const counted = counting(memorySource(file));
    const tensor = (await openTorch(counted.source)).get('a');
    counted.reset();
    expect(await tensor?.rowBytes(4000, 4001)).toEqual(numbers.subarray(4000 * 256, 4001 * 256));
    expect(counted.bytes()).toBe(256);
  });

  it('reads a transposed matrix without its whole storage for a few rows', async () => {
    const rows = 1 << 12;
    const values = Float32Array.from({ length: 64 * rows }, (_, i) => i);
    const pickle = pickledView(values.length, 0, [rows, 64], [1, rows]);
    const numbers = new Uint8Array(values.buffer);
    const counted = counting(memorySource(zipOf({ 'x/data.pkl': pickle, 'x/data/0': numbers })));
    const tensor = (await openTorch(counted.source)).get('a');
    counted.reset();
    const bytes = await tensor?.rowBytes(7, 9);
    const expected = Float32Array.from({ length: 128 }, (_, i) =>
      i < 64 ? 7 + i * rows : 8 + (i - 64) * rows,
    );
    expect(new Float32Array(bytes?.buffer ?? new ArrayBuffer(0))).toEqual(expected);
    expect(counted.bytes()).toBe(512);
  });

  it.each([
    ['that begins outside', [10, 9, [2], [1]]],
    ['that ends outside', [10, 0, [3, 4], [4, 1]]],
    ['with a negative size', [10, 0, [-1], [1]]],
    ['with a stride too few', [10, 0, [2, 2], [1]]],
    ['with a negative stride', [10, 5, [2], [-1]]],
  ] as const)('refuses a view %s', async (_, [elements, offset, shape, strides]) => {
    const pickle = pickledView(elements, offset, shape, strides);
    const file = zipOf({ 'x/data.pkl': pickle, 'x/data/0': new Uint8Array(40) });
    expect(await failure(openTorch(memorySource(file)))).toMatch(/outside its storage|no tensor/);
  });

  it('refuses a storage that is missing, too small, or of another byte order', async () => {
    const pickle = pickledView(10, 0, [10], [1]);
    const refusal = (entries: Record<string, Uint8Array>) =>
      failure(openTorch(memorySource(zipOf({ 'x/data.pkl': pickle, ...entries }))));
    expect(await refusal({})).toContain('storage 0 is not in the file');
    expect(await refusal({ 'x/data/0': new Uint8Array(39) })).toContain('39 bytes for 10 elements');
    const big = { 'x/byteorder': new TextEncoder().encode('big') };
    expect(await refusal({ 'x/data/0': new Uint8Array(40), ...big })).toContain('big-endian');
    expect(await refusal({ 'y/data.pkl': pickle })).toContain('2 entries NAME/data.pkl');
  });
});

describe('a zip archive', () => {
  const entries = { a: Uint8Array.of(1, 2, 3), 'b/c': new Uint8Array(), d: Uint8Array.of(9) };

  it.each([false, true])('gives the bytes of its entries (64-bit sizes: %s)', async (zip64) => {
    const source = memorySource(zipOf(entries, { zip64, comment: 'PK\u0005\u0006 a comment' }));
    const zip = await openZip(source);
    expect([...zip.entries.keys()]).toEqual(Object.keys(entries));
    for (const entry of zip.entries.values()) {
      const bytes = await source.read(await zip.start(entry), entry.bytes);
      expect(bytes).toEqual(entries[entry.name as keyof typeof entries]);
    }
  });

  it.each([
    ['compressed', { method: 8 }, 'a is compressed'],
    ['encrypted', { flags: 1 }, 'a is encrypted'],
    ['cut', { cut: 1 }, 'no end of a directory'],
  ])('that is %s is refused', async (_, options, message) => {
    const file = zipOf(entries, options);
    expect(await failure(openZip(memorySource(file)))).toContain(message);
  });
});

/** {'a': a view of f32 storage 0}, pickled by hand in protocol 2. */
function pickledView(
  elements: number,
  offset: number,
  shape: readonly number[],
  strides: readonly number[],
): Uint8Array {
  const text = (value: string) => [0x58, value.length, 0, 0, 0, ...new TextEncoder().encode(value)];
  const int = (value: number) => [0x4a, ...new Uint8Array(Int32Array.of(value).buffer)];
  const tuple = (items: readonly number[]) => [0x28, ...items.flatMap(int), 0x74];
  const global = (module: string, name: string) => [
    0x63,
    ...new TextEncoder().encode(`${module}\n${name}\n`),
  ];
  const storage = [0x28, ...text('storage'), ...global('torch', 'FloatStorage'), ...text('0')];
  return Uint8Array.from([
    ...[0x80, 2, 0x7d],
    ...text('a'),
    ...[...global('torch._utils', '_rebuild_tensor_v2'), 0x28],
    ...[...storage, ...text('cpu'), ...int(elements), 0x74, 0x51],
    ...[...int(offset), ...tuple(shape), ...tuple(strides), 0x89, 0x4e, 0x74, 0x52],
    ...[0x73, 0x2e],
  ]);
}

/** A source that says how many bytes were asked for. */
function counting(source: ByteSource) {
  let bytes = 0;
  const read = (offset: number, length: number) => {
    bytes += length;
    return source.read(offset, length);
  };
  const counted: ByteSource = { size: source.size, read };
  return { source: counted, bytes: () => bytes, reset: () => (bytes = 0) };
}
