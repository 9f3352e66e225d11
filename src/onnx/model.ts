import { decoderGraph, type OnnxModel } from './decoder.ts';
import { MICROSOFT } from './graph.ts';
import { checkRunnable } from './limits.ts';
import { encodeModel } from './proto.ts';
import type { WeightOptions } from './weights.ts';

/** A package as a model of ONNX Runtime: the graph, with the package's shards as its weights. */

const PRODUCER = 'pediatricsgpt-web';

/** ONNX's operators as of this version; the file format that came with it. */
const OPSET = 18;
const IR_VERSION = 8;

/** The bytes of `model.onnx` for a manifest. @throws Failure CpuLimit */
export function onnxModel(manifest: OnnxModel, options: WeightOptions = {}): Uint8Array {
  checkRunnable(manifest);
  return encodeModel({
    irVersion: IR_VERSION,
    producerName: PRODUCER,
    producerVersion: '1',
    opsetImport: [
      { domain: '', version: OPSET },
      { domain: MICROSOFT, version: 1 },
    ],
    graph: decoderGraph(manifest, options),
    metadataProps: [{ key: 'package', value: manifest.id }],
  });
}
