import { rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { onnxModel } from '../../src/onnx/model.ts';
import type { AccuracyLevel } from '../../src/onnx/weights.ts';
import { readManifest } from '../reader.ts';

/** `model.onnx` beside the shards of a package: the graph, with the shards as its weights. */

export const ONNX_FILE = 'model.onnx';

/**
 * Writes `model.onnx` into a package's folder. The manifest does not list it: it can be made again
 * from the manifest at any time, and goes when the package is replaced.
 * @returns its size in bytes
 * @throws Failure NotFound, BadManifest, CpuLimit (more than 32-bit WebAssembly can hold, or heads
 *   that ONNX Runtime cannot turn)
 */
export async function writeOnnx(folder: string, accuracyLevel: AccuracyLevel = 0): Promise<number> {
  const manifest = await readManifest(folder);
  const bytes = onnxModel(manifest, { accuracyLevel });
  const path = join(folder, ONNX_FILE);
  const partial = `${path}.partial-${process.pid}`;
  try {
    await writeFile(partial, bytes, { flush: true });
    await rename(partial, path);
  } finally {
    await rm(partial, { force: true });
  }
  return bytes.length;
}
