import { describe, expect, it, vi } from 'vitest';
import type { Gpu } from '../gpu/gpu.ts';
import { createSamplePick, NONE_WRONG, RESULT_BYTES } from '../gpu/kernels/sample_pick.ts';
import {
  createSampleScores,
  packSettings,
  sampleBlocks,
  seenWords,
  writeSeen,
} from '../gpu/kernels/sample_scores.ts';
import { gpuCases, openTestGpu, runSteps, upload, uploadParams } from '../gpu/testing.ts';
import { randomAt } from './random.ts';
import { sample, type SampleSettings } from './sampler.ts';

/** The kernels against the sampler on the CPU: the same token for the same arguments. */

// Software drivers compile kernels for seconds, and longer on a busy machine.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const plain: SampleSettings = { temperature: 1, topK: 0, topP: 1, repetitionPenalty: 1 };
const greedy: SampleSettings = { ...plain, temperature: 0 };

/** Both kernels on buffers of their own. */
async function openSampler(gpu: Gpu, vocab: number) {
  const scores = await createSampleScores(gpu, vocab);
  const pick = await createSamplePick(gpu, vocab);
  const settings = upload(gpu, new Uint8Array(32));
  const logits = gpu.storage('logits', vocab * 4);
  const seen = gpu.storage('seen', seenWords(vocab) * 4);
  const keys = gpu.storage('keys', vocab * 4);
  const list = gpu.storage('list', vocab * 8);
  const blocks = gpu.storage('blocks', sampleBlocks(gpu, vocab).count * 16);
  const tokens = gpu.storage('tokens', 16);
  const result = gpu.storage('result', RESULT_BYTES);
  const params = uploadParams(gpu, 1);
  const steps = [
    scores({ settings, logits, seen, keys, blocks }),
    pick({ params, settings, blocks, keys, list, seen, tokens, result }),
  ];
  const { queue } = gpu.device;
  const counts = new Uint32Array(seenWords(vocab));
  return {
    /** Puts logits, settings and the answer so far in place. */
    begin(
      values: Float32Array<ArrayBuffer>,
      how: SampleSettings,
      seed: number,
      start: number,
      answer: readonly number[] = [],
    ): void {
      queue.writeBuffer(logits, 0, values);
      const all = { presencePenalty: 0, minP: 0, ...how, seed, start };
      queue.writeBuffer(settings, 0, packSettings(all));
      writeSeen(counts, vocab, start, answer);
      queue.writeBuffer(seen, 0, counts);
    },
    /** The token for this position: [token, wrong id, its bits, position]. */
    async next(position: number, row = 0): Promise<Uint32Array> {
      queue.writeBuffer(params, 0, new Uint32Array([1, position - 1 - row, row, 0]));
      const words = await runSteps(gpu, steps, 1, result, 4);
      return new Uint32Array(words.buffer);
    },
    async token(): Promise<number> {
      const words = await runSteps(gpu, [], 1, tokens, 1);
      return new Uint32Array(words.buffer)[0] ?? -1;
    },
  };
}

/** Numbers as a model's logits lie: about normal, some of them equal. */
function testLogits(vocab: number, seed: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: vocab }, (_, id) => {
    let sum = -6;
    for (let i = 0; i < 12; i++) sum += randomAt(seed * 12 + i, id);
    return Math.round(sum * 3 * 64) / 64;
  });
}

const kinds: Record<string, SampleSettings> = {
  'the highest': greedy,
  'the highest after penalties': { ...greedy, repetitionPenalty: 1.3, presencePenalty: 0.5 },
  'of all': plain,
  'of all, cold': { ...plain, temperature: 0.3 },
  'of all, hot': { ...plain, temperature: 7 },
  'top k': { ...plain, topK: 20 },
  'top 1': { ...plain, topK: 1 },
  'top k beyond the vocabulary': { ...plain, topK: 1_000_000 },
  'top p': { ...plain, topP: 0.9 },
  'hot top p': { ...plain, temperature: 3, topP: 0.95 },
  'top p of nothing': { ...plain, topP: 0 },
  'min p': { ...plain, minP: 0.05 },
  everything: {
    temperature: 0.7,
    topK: 50,
    topP: 0.8,
    minP: 0.02,
    repetitionPenalty: 1.1,
    presencePenalty: 0.2,
  },
};

describe.each(gpuCases)('sampling in $title', async (setting) => {
  const gpu = await openTestGpu(setting);

  describe.each([7, 257, 8192, 125_696])('of %i tokens', async (vocab) => {
    const sampler = await openSampler(gpu, vocab);
    const draws = vocab > 10_000 ? 2 : 6;

    it.each(Object.entries(kinds))('%s: the CPU has the same tokens', async (_, how) => {
      const logits = testLogits(vocab, 3);
      const start = 20;
      const answer = [vocab - 1, 3, 3, 1];
      const expected = [...answer];
      sampler.begin(logits, how, 77, start, answer);
      const actual = [...answer];
      for (let i = 0; i < draws; i++) {
        expected.push(sample(logits, how, expected, 77, start + expected.length));
        const [token = -1, wrong, , position] = await sampler.next(start + actual.length, i % 3);
        expect(position).toBe(start + actual.length);
        expect(wrong).toBe(NONE_WRONG);
        actual.push(token);
        expect(await sampler.token()).toBe(token);
      }
      expect(actual).toEqual(expected);
    });

    it('equal scores go by id', async () => {
      const logits = new Float32Array(vocab);
      logits.set([-1, -0, 0, 0, -0, 0, 0]);
      for (const how of [greedy, { ...plain, topK: 3 }, { ...plain, topP: 0.01 }, plain]) {
        sampler.begin(logits, how, 5, 1);
        for (let position = 1; position < 1 + draws; position++) {
          const [token] = await sampler.next(position);
          expect(token).toBe(sample(logits, how, [], 5, position));
        }
      }
    });

    it.each([NaN, Infinity, -Infinity])('a logit that is %s is told', async (value) => {
      const logits = testLogits(vocab, 4);
      const wrong = [vocab - 1, vocab >> 1];
      for (const id of wrong) logits[id] = value;
      for (const how of [greedy, plain]) {
        sampler.begin(logits, how, 1, 1);
        const [token, id, bits] = await sampler.next(1);
        expect(token).toBe(0);
        expect(id).toBe(Math.min(...wrong));
        expect(new Float32Array(new Uint32Array([bits ?? 0]).buffer)[0]).toBe(value);
      }
    });
  });

  it('forgets tokens that came more than 256 ago', async () => {
    const sampler = await openSampler(gpu, 300);
    const how = { ...greedy, presencePenalty: 100 };
    const logits = Float32Array.from({ length: 300 }, (_, id) => -id);
    for (const before of [0, 250, 256, 261]) {
      const answer = Array.from({ length: before }, (_, i) => i);
      const expected = [...answer];
      sampler.begin(logits, how, 1, 40, answer);
      const actual = [...answer];
      for (let i = 0; i < (before === 0 ? 260 : 10); i++) {
        expected.push(sample(logits, how, expected, 1, 40 + expected.length));
        actual.push((await sampler.next(40 + actual.length))[0] ?? -1);
      }
      expect(actual).toEqual(expected);
    }
  });

  it('draws tokens as often as the softmax says', async () => {
    const vocab = 7;
    const sampler = await openSampler(gpu, vocab);
    const logits = Float32Array.from([0, 1, 2, 0.5, -1, -30, 1]);
    const how = { ...plain, temperature: 0.7, topK: 5 }; // without -1 and -30
    const kept = [0, 1, 2, 3, 6];
    const weights = kept.map((id) => Math.exp((logits[id] ?? 0) / how.temperature));
    const whole = weights.reduce((sum, weight) => sum + weight, 0);
    const counts = new Map<number, number>();
    const draws = 600;
    sampler.begin(logits, how, 99, 0);
    for (let position = 1; position <= draws; position++) {
      const [token = -1] = await sampler.next(position);
      counts.set(token, (counts.get(token) ?? 0) + 1);
    }
    expect([...counts.keys()].sort()).toEqual(kept);
    const chiSquare = kept.reduce((sum, id, i) => {
      const share = (draws * (weights[i] ?? 0)) / whole;
      return sum + ((counts.get(id) ?? 0) - share) ** 2 / share;
    }, 0);
    // 4 degrees of freedom: 18.5 is passed once in a thousand by true randomness.
    expect(chiSquare).toBeLessThan(18.5);
  });
});
