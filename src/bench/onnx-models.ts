import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GraphBuilder, MICROSOFT } from '../onnx/graph.ts';
import { encodeModel } from '../onnx/proto.ts';
import { StoredWeights, type AccuracyLevel } from '../onnx/weights.ts';
import { onnxModel } from '../onnx/model.ts';
import type { Manifest } from '../format/manifest.ts';
import { MATMUL_PAIRS, onnxFiles } from './engine.ts';
import { withoutAdapter } from './page/package.ts';

/** Writes the peer's models beside the shards: the whole model without its adapter, and matmuls. */
export async function writeOnnxModels(folder: string, manifest: Manifest): Promise<void> {
  const plain = withoutAdapter(manifest);
  for (const int8 of [false, true]) {
    const level = int8 ? 4 : 0;
    await writeFile(
      join(folder, onnxFiles.model(int8)),
      onnxModel(plain, { accuracyLevel: level }),
    );
    await writeFile(join(folder, onnxFiles.matmuls(int8)), matmulModel(plain, level));
  }
}

/** narrow f32 [1, T, D], wide f32 [1, T, F] -> the products of every pair: up.I, down.I. */
function matmulModel(manifest: Manifest, accuracyLevel: AccuracyLevel): Uint8Array {
  const { width, mlpWidth } = manifest.config;
  const graph = new GraphBuilder();
  const weights = new StoredWeights(graph, manifest, { accuracyLevel });
  const narrow = graph.input('narrow', 'f32', [1, 'tokens', width]);
  const wide = graph.input('wide', 'f32', [1, 'tokens', mlpWidth]);
  for (let i = 0; i < MATMUL_PAIRS; i++) {
    const up = weights.multiply(narrow, `layers.${i}.gate_up`, [0, mlpWidth]);
    const down = weights.multiply(wide, `layers.${i}.down`, [0, width]);
    graph.node('Identity', [up], {}, `up.${i}`);
    graph.node('Identity', [down], {}, `down.${i}`);
    graph.output(`up.${i}`, 'f32', [1, 'tokens', mlpWidth]);
    graph.output(`down.${i}`, 'f32', [1, 'tokens', width]);
  }
  return encodeModel({
    irVersion: 8,
    producerName: 'bench',
    producerVersion: '1',
    opsetImport: [
      { domain: '', version: 18 },
      { domain: MICROSOFT, version: 1 },
    ],
    graph: graph.build('matmuls'),
    metadataProps: [],
  });
}
