import wgsl from '#shaders/sample_scores.wgsl?raw';
import { gridOf, type Gpu, type Step } from '../gpu.ts';

/** How the next token is chosen: the settings of the sampler on the CPU. */
export interface SampleSettings {
  readonly temperature: number; // 0 for the highest score
  readonly topK: number; // 0 is off
  readonly topP: number; // 1 is off
  readonly minP: number; // 0 is off
  readonly repetitionPenalty: number; // 1 is off
  readonly presencePenalty: number; // 0 is off
  readonly seed: number; // taken as a 32-bit word
  /** Where the answer's first token stands in the sequence. */
  readonly start: number;
}

/** The penalties look back this many tokens of the answer. */
export const SEEN_WINDOW = 256;
/** Bytes of the settings as the shaders read them. */
export const SETTINGS_BYTES = 32;
/** A smaller temperature takes the highest score: a shader may take such numbers for 0. */
const SMALLEST_NORMAL = 2 ** -126;

/** Settings as the shaders read them. */
export function packSettings(settings: SampleSettings): ArrayBuffer {
  const { temperature, topP, minP, repetitionPenalty, presencePenalty, topK, seed, start } =
    settings;
  const words = new ArrayBuffer(SETTINGS_BYTES);
  const heat = temperature < SMALLEST_NORMAL ? 0 : temperature;
  new Float32Array(words).set([heat, topP, minP, repetitionPenalty, presencePenalty]);
  new Uint32Array(words, 20).set([Math.min(topK, 2 ** 32 - 1), seed, start]);
  return words;
}

/** Words of `seen`: a count for every token, then the last tokens by position. */
export function seenWords(vocab: number): number {
  return vocab + SEEN_WINDOW;
}

/** Fills `into` [V + 256] as it stands after an answer's first tokens. */
export function writeSeen(
  into: Uint32Array,
  vocab: number,
  start: number,
  answer: readonly number[],
): void {
  into.fill(0);
  const from = Math.max(0, answer.length - SEEN_WINDOW);
  answer.slice(from).forEach((token, i) => {
    into[token] = (into[token] ?? 0) + 1;
    into[vocab + ((start + from + i) % SEEN_WINDOW)] = token;
  });
}

/** How the vocabulary is cut into blocks: both kernels have to agree. */
export interface SampleBlocks {
  readonly lanes: number;
  readonly each: number; // tokens of an invocation
  readonly count: number;
}

export function sampleBlocks({ tuning }: Gpu, vocab: number): SampleBlocks {
  const lanes = tuning.workgroup;
  // Software pays for every workgroup's barrier; a GPU wants many small blocks.
  const each = tuning.rowLanes === 1 ? 64 : 4;
  return { lanes, each, count: Math.ceil(vocab / (lanes * each)) };
}

export interface SampleScoresBuffers {
  readonly settings: GPUBuffer;
  readonly logits: GPUBuffer; // f32 [V]
  readonly seen: GPUBuffer; // u32 [V + 256]
  readonly keys: GPUBuffer; // u32 [V]
  readonly blocks: GPUBuffer; // u32 [blocks, 4]
}

/** Sortable scores after the penalties, and the best of every block. */
export async function createSampleScores(
  gpu: Gpu,
  vocab: number,
): Promise<(buffers: SampleScoresBuffers) => Step> {
  const { lanes: WG, each: EACH, count } = sampleBlocks(gpu, vocab);
  const kernel = await gpu.kernel('sample_scores', wgsl, { V: vocab, EACH, WG });
  return ({ settings, logits, seen, keys, blocks }) =>
    kernel.bind([settings, logits, seen, keys, blocks], gridOf(count));
}
