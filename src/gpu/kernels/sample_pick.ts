import wgsl from '#shaders/sample_pick.wgsl?raw';
import { gridOf, type Gpu, type Step } from '../gpu.ts';
import { sampleBlocks } from './sample_scores.ts';

export interface SamplePickBuffers {
  readonly params: GPUBuffer; // of the head: position and row of these logits
  readonly settings: GPUBuffer;
  readonly blocks: GPUBuffer; // u32 [blocks, 4]
  readonly keys: GPUBuffer; // u32 [V]
  readonly list: GPUBuffer; // u32 [V, 2]
  readonly seen: GPUBuffer; // u32 [V + 256]
  readonly tokens: GPUBuffer; // u32, the first one is written
  readonly result: GPUBuffer; // u32 [4]
}

/** Bytes of a result: token, wrong id, its bits, position. */
export const RESULT_BYTES = 16;
/** The wrong id of logits that are all finite. */
export const NONE_WRONG = 0xffffffff;

/** Elements are told apart by 24 bits of their id. */
const MOST_TOKENS = 2 ** 24;

/** The next token, by the keys and blocks of sample_scores. @throws RangeError for more than 2^24 tokens */
export async function createSamplePick(
  gpu: Gpu,
  vocab: number,
): Promise<(buffers: SamplePickBuffers) => Step> {
  if (vocab > MOST_TOKENS) throw new RangeError(`${vocab} tokens; ${MOST_TOKENS} can be sampled`);
  const WG = gpu.tuning.rowLanes === 1 ? gpu.tuning.workgroup : 256;
  const BLOCKS = sampleBlocks(gpu, vocab).count;
  const kernel = await gpu.kernel('sample_pick', wgsl, { V: vocab, BLOCKS, WG });
  return ({ params, settings, blocks, keys, list, seen, tokens, result }) =>
    kernel.bind([params, settings, blocks, keys, list, seen, tokens, result], gridOf(1));
}
