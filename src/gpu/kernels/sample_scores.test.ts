import { describe, expect, it } from 'vitest';
import { gpuCases, openTestGpu, runSteps, testNumbers, upload } from '../testing.ts';
import {
  createSampleScores,
  packSettings,
  sampleBlocks,
  seenWords,
  writeSeen,
  type SampleSettings,
} from './sample_scores.ts';

const plain: SampleSettings = {
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  seed: 1,
  start: 0,
};
const NONE = 0xffffffff;

/** Words in the order of the numbers, by what IEEE 754 says of bits. */
function sortable(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value === 0 ? 0 : value).buffer)[0] ?? 0;
  return bits < 2 ** 31 ? bits + 2 ** 31 : 2 ** 32 - 1 - bits;
}

describe.each(gpuCases)('sample_scores in $title', async (setting) => {
  const gpu = await openTestGpu(setting);

  const run = async (
    logits: Float32Array<ArrayBuffer>,
    how: SampleSettings,
    answer: readonly number[],
  ) => {
    const vocab = logits.length;
    const { lanes, each, count } = sampleBlocks(gpu, vocab);
    const bind = await createSampleScores(gpu, vocab);
    const counts = new Uint32Array(seenWords(vocab));
    writeSeen(counts, vocab, how.start, answer);
    const keys = gpu.storage('keys', vocab * 4);
    const blocks = gpu.storage('blocks', count * 16);
    const step = bind({
      settings: upload(gpu, new Uint8Array(packSettings(how))),
      logits: upload(gpu, logits),
      seen: upload(gpu, counts),
      keys,
      blocks,
    });
    const words = async (buffer: GPUBuffer, size: number): Promise<Uint32Array> =>
      new Uint32Array((await runSteps(gpu, [step], 1, buffer, size)).buffer);
    return { keys: await words(keys, vocab), blocks: await words(blocks, count * 4), lanes, each };
  };

  it.each([1, 7, 257, 1500, 4097])(
    'scores %i tokens and finds the best of each block',
    async (vocab) => {
      const logits = testNumbers(vocab, 2);
      logits.set([0, -0, 3, 3].slice(0, vocab));
      const answer = [0, vocab - 1, vocab - 1, vocab >> 1];
      // Powers of two: no rounding to think of.
      const how = { ...plain, repetitionPenalty: 2, presencePenalty: 0.25 };
      const { keys, blocks, lanes, each } = await run(logits, how, answer);
      const scores = logits.map((logit, id) => {
        if (!answer.includes(id)) return logit;
        return (logit > 0 ? logit / 2 : logit * 2) - 0.25;
      });
      expect([...keys]).toEqual(Array.from(scores, sortable));
      for (let b = 0; b * 4 < blocks.length; b++) {
        const own = [...keys.subarray(b * lanes * each, (b + 1) * lanes * each)];
        const best = Math.max(...own);
        const id = b * lanes * each + own.indexOf(best);
        expect([...blocks.subarray(b * 4, b * 4 + 3)]).toEqual([best, id, NONE]);
      }
    },
  );

  it('leaves scores alone where no penalty is on', async () => {
    const logits = testNumbers(300, 5);
    const { keys } = await run(logits, plain, [1, 2, 3]);
    expect([...keys]).toEqual(Array.from(logits, sortable));
  });

  it.each([NaN, Infinity, -Infinity])('names the first logit that is %s', async (value) => {
    const logits = testNumbers(4097, 6);
    logits[4096] = value;
    logits[700] = value;
    logits[600] = value;
    const { blocks } = await run(logits, plain, []);
    const wrong = [...blocks].filter((_, i) => i % 4 === 2);
    expect(Math.min(...wrong)).toBe(600);
    const bits = blocks[wrong.indexOf(600) * 4 + 3] ?? 0;
    expect(new Float32Array(Uint32Array.of(bits).buffer)[0]).toBe(value);
  });
});
