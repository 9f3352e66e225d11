import { join } from 'node:path';
import { failureName } from '../src/failure.ts';
import { dequantizeBlock } from '../src/format/dtype.ts';
import type { Manifest } from '../src/format/manifest.ts';
import { convert, type ConvertOptions } from './convert.ts';
import { blockReader } from './reader.ts';
import { folderOf } from './testing.ts';

/** A package that was written. */
export interface Run {
  readonly manifest: Manifest;
  readonly out: string;
}

export type Files = Record<string, unknown>;

/** Converts files that are first written to new folders. */
export async function run(
  checkpoint: Files,
  adapter: Files | null,
  options: Partial<ConvertOptions> = {},
): Promise<Run> {
  const out = options.out ?? join(await folderOf({}), 'package');
  const manifest = await convert({
    checkpoint: await folderOf(checkpoint),
    adapter: adapter === null ? null : await folderOf(adapter),
    shardBytes: 1 << 24,
    ...options,
    out,
  });
  return { manifest, out };
}

/** A tensor as a reader gets it. */
export async function read({ manifest, out }: Run, name: string): Promise<Float32Array> {
  const tensor = manifest.tensors.find((one) => one.name === name);
  if (tensor === undefined) throw new Error(`no tensor ${name}`);
  const columns = tensor.shape[1] ?? 1;
  const all = new Float32Array((tensor.shape[0] ?? 0) * columns);
  for (const block of tensor.blocks) {
    const [from, to] = block.rows;
    const bytes = await blockReader(out)(block);
    all.set(dequantizeBlock(tensor.dtype, bytes, to - from, columns), from * columns);
  }
  return all;
}

/** What a promise fails with: name and message. */
export async function failure(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return `${failureName(error)}: ${error instanceof Error ? error.message : ''}`;
  }
  return 'no failure';
}

export const hashes = (manifest: Manifest, stem: string) =>
  manifest.files.filter(({ name }) => name.startsWith(stem)).map(({ sha256 }) => sha256);
