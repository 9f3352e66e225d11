import { rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '../../src/failure.ts';
import { GROUP_SIZE, type TensorInfo } from '../../src/format/manifest.ts';
import packageJson from '../../package.json' with { type: 'json' };
import { readManifest } from '../reader.ts';
import { decoderGraph, type OnnxModel } from './decoder.ts';
import { MICROSOFT } from './graph.ts';
import { encodeModel } from './proto.ts';
import type { AccuracyLevel } from './weights.ts';

/** `model.onnx` beside the shards of a package: the graph, with the shards as its weights. */

export const ONNX_FILE = 'model.onnx';

/** ONNX's operators as of this version; the file format that came with it. */
const OPSET = 18;
const IR_VERSION = 8;

/** Addresses of 32-bit WebAssembly, and what of them is left to code, activations and the cache. */
const WASM_BYTES = 2 ** 32;
const WASM_RESERVE = 2 ** 29;

/** GroupQueryAttention turns whole vectors: Dh/2 must be a multiple of this. */
const ROTARY_STEP = 8;

/** A model as far as its size goes; its tensors need no places yet. */
interface Described extends Pick<OnnxModel, 'id' | 'config'> {
  readonly tensors: readonly {
    readonly dtype: TensorInfo['dtype'];
    readonly shape: readonly number[];
  }[];
}

/**
 * Writes `model.onnx` into a package's folder. The manifest does not list it: it can be made again
 * from the manifest at any time, and goes when the package is replaced.
 * @returns its size in bytes
 * @throws Failure NotFound, BadManifest, DeviceLimit (more than 32-bit WebAssembly can hold),
 *   BadPackage (heads that ONNX Runtime cannot turn)
 */
export async function writeOnnx(folder: string, accuracyLevel: AccuracyLevel = 0): Promise<number> {
  const manifest = await readManifest(folder);
  const bytes = onnxModel(manifest, accuracyLevel);
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

/** The bytes of `model.onnx` for a manifest. @throws Failure DeviceLimit, BadPackage */
export function onnxModel(manifest: OnnxModel, accuracyLevel: AccuracyLevel): Uint8Array {
  checkRunnable(manifest);
  return encodeModel({
    irVersion: IR_VERSION,
    producerName: packageJson.name,
    producerVersion: packageJson.version,
    opsetImport: [
      { domain: '', version: OPSET },
      { domain: MICROSOFT, version: 1 },
    ],
    graph: decoderGraph(manifest, accuracyLevel),
    metadataProps: [{ key: 'package', value: manifest.id }],
  });
}

/** Bytes that ONNX Runtime keeps: q planes as they are, scales and everything else in f32. */
function runtimeBytes({ tensors }: Described): number {
  return tensors.reduce((sum, tensor) => {
    const values = (tensor.shape[0] ?? 0) * (tensor.shape[1] ?? 1);
    const bits = { q4: 4, q8: 8, f16: 32, f32: 32 }[tensor.dtype];
    const scales = bits < 32 ? 32 / GROUP_SIZE : 0;
    return sum + (values * (bits + scales)) / 8;
  }, 0);
}

/**
 * Says early what ONNX Runtime in a browser cannot run.
 * @throws Failure DeviceLimit, BadPackage
 */
export function checkRunnable(manifest: Described): void {
  const { headDim, positions } = manifest.config;
  if (positions.kind === 'rope' && headDim % (2 * ROTARY_STEP) !== 0) {
    throw new Failure(
      'BadPackage',
      `headDim ${headDim}: ONNX Runtime turns heads of whole ${2 * ROTARY_STEP}s only`,
    );
  }
  const bytes = runtimeBytes(manifest);
  if (bytes > WASM_BYTES - WASM_RESERVE) {
    const gib = (value: number): string => (value / 2 ** 30).toFixed(2);
    throw new Failure(
      'DeviceLimit',
      `${manifest.id}: its weights need ${gib(bytes)} GiB in ONNX Runtime, whose 32-bit WebAssembly ` +
        `has ${gib(WASM_BYTES)} GiB of addresses, ${gib(WASM_RESERVE)} of them for everything else; ` +
        'use the WebGPU engine for this package',
    );
  }
}
