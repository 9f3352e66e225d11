import type { Gpu, Step } from '../gpu/gpu.ts';
import { createSamplePick, NONE_WRONG, RESULT_BYTES } from '../gpu/kernels/sample_pick.ts';
import {
  createSampleScores,
  packSettings,
  sampleBlocks,
  SETTINGS_BYTES,
  seenWords,
  writeSeen,
  type SampleSettings,
} from '../gpu/kernels/sample_scores.ts';
import type { State } from './state.ts';

/** One choice on its way back: a staging buffer and where it is read into. */
interface Slot {
  readonly staging: GPUBuffer;
  readonly words: Float32Array<ArrayBuffer>; // the bits of u32 [4]
}

/** What the GPU chose. */
export interface Choice {
  readonly token: number;
  /** The lowest id whose logit is no finite number; null where all are. */
  readonly wrong: { readonly id: number; readonly value: number } | null;
}

/** Buffers that sampling needs, made once. */
export interface SamplingBuffers {
  readonly settings: GPUBuffer;
  readonly keys: GPUBuffer; // u32 [V]
  readonly blocks: GPUBuffer; // u32 [blocks, 4]
  readonly list: GPUBuffer; // u32 [V, 2]
  readonly seen: GPUBuffer; // u32 [V + 256]
  readonly result: GPUBuffer; // u32 [4]
  readonly slots: readonly Slot[]; // as many as steps may be in flight
}

export function createSamplingBuffers(gpu: Gpu, vocab: number): SamplingBuffers {
  const { stepsInFlight } = gpu.tuning;
  return {
    settings: gpu.storage('sampling settings', SETTINGS_BYTES),
    keys: gpu.storage('sampling keys', vocab * 4),
    blocks: gpu.storage('sampling blocks', sampleBlocks(gpu, vocab).count * 16),
    list: gpu.storage('sampling list', vocab * 8),
    seen: gpu.storage('seen tokens', seenWords(vocab) * 4),
    result: gpu.storage('sampled token', RESULT_BYTES),
    slots: Array.from({ length: stepsInFlight }, (_, i) => ({
      staging: gpu.staging(`sampled token ${i}`, RESULT_BYTES),
      words: new Float32Array(RESULT_BYTES / 4),
    })),
  };
}

/** Chooses tokens on the GPU; choices are read back through a ring of small buffers. */
export class Sampling {
  /** From the logits of the head to `state.tokens[0]`. */
  readonly steps: readonly Step[];
  readonly #gpu: Gpu;
  readonly #vocab: number;
  readonly #buffers: SamplingBuffers;
  readonly #seen: Uint32Array<ArrayBuffer>;
  #next = 0;

  private constructor(gpu: Gpu, vocab: number, buffers: SamplingBuffers, steps: readonly Step[]) {
    this.#gpu = gpu;
    this.#vocab = vocab;
    this.#buffers = buffers;
    this.#seen = new Uint32Array(seenWords(vocab));
    this.steps = steps;
  }

  static async create(
    gpu: Gpu,
    vocab: number,
    { headParams: params, logits, tokens }: State,
    buffers: SamplingBuffers,
  ): Promise<Sampling> {
    const { settings, keys, blocks, list, seen, result } = buffers;
    const [scores, pick] = await Promise.all([
      createSampleScores(gpu, vocab),
      createSamplePick(gpu, vocab),
    ]);
    return new Sampling(gpu, vocab, buffers, [
      scores({ settings, logits, seen, keys, blocks }),
      pick({ params, settings, blocks, keys, list, seen, tokens, result }),
    ]);
  }

  /** Choices that may be on their way at once. */
  get depth(): number {
    return this.#buffers.slots.length;
  }

  /** Puts settings and an answer's first tokens in place. */
  begin(settings: SampleSettings, answer: readonly number[]): void {
    const { queue } = this.#gpu.device;
    writeSeen(this.#seen, this.#vocab, settings.start, answer);
    queue.writeBuffer(this.#buffers.settings, 0, packSettings(settings));
    queue.writeBuffer(this.#buffers.seen, 0, this.#seen);
  }

  /** Records the copy of a choice into the next place of the ring. @returns what reads it, once submitted */
  copy(encoder: GPUCommandEncoder): () => Promise<Choice> {
    const { result, slots } = this.#buffers;
    const slot = slots[this.#next % slots.length];
    if (slot === undefined) throw new RangeError('no place to read a token from');
    this.#next += 1;
    encoder.copyBufferToBuffer(result, 0, slot.staging, 0, RESULT_BYTES);
    return async () => {
      await this.#gpu.read(slot.staging, slot.words);
      const [token = 0, id = 0] = new Uint32Array(slot.words.buffer);
      return { token, wrong: id === NONE_WRONG ? null : { id, value: slot.words[2] ?? NaN } };
    };
  }
}
