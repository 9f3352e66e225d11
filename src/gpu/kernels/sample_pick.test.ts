import { describe, expect, it } from 'vitest';
import { gpuCases, openTestGpu, runSteps, testNumbers, upload, uploadParams } from '../testing.ts';
import { createSamplePick, NONE_WRONG } from './sample_pick.ts';
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
  start: 4,
};

/** Which tokens may come: a plain sort, and sums in its order. */
function possible(logits: Float32Array, how: SampleSettings): number[] {
  const order = Array.from(logits, (logit, id) => ({ logit, id }));
  order.sort((a, b) => b.logit - a.logit || a.id - b.id);
  const first = order.slice(0, how.topK === 0 ? order.length : how.topK);
  const weights = first.map(({ logit }) =>
    Math.exp((logit - (first[0]?.logit ?? 0)) / how.temperature),
  );
  const whole = weights.reduce((sum, weight) => sum + weight, 0);
  let sum = 0;
  const kept = first.filter((_, i) => {
    const before = sum;
    sum += weights[i] ?? 0;
    return i === 0 || (before < how.topP * whole && (weights[i] ?? 0) >= how.minP);
  });
  return kept.map(({ id }) => id);
}

describe.each(gpuCases)('sample_pick in $title', async (setting) => {
  const gpu = await openTestGpu(setting);

  const open = async (
    logits: Float32Array<ArrayBuffer>,
    how: SampleSettings,
    answer: readonly number[] = [],
  ) => {
    const vocab = logits.length;
    const counts = new Uint32Array(seenWords(vocab));
    writeSeen(counts, vocab, how.start, answer);
    const settings = upload(gpu, new Uint8Array(packSettings(how)));
    const seen = upload(gpu, counts);
    const keys = gpu.storage('keys', vocab * 4);
    const blocks = gpu.storage('blocks', sampleBlocks(gpu, vocab).count * 16);
    const list = gpu.storage('list', vocab * 8);
    const tokens = gpu.storage('tokens', 16);
    const result = gpu.storage('result', 16);
    const params = uploadParams(gpu, 1);
    const scores = await createSampleScores(gpu, vocab);
    const pick = await createSamplePick(gpu, vocab);
    const steps = [
      scores({ settings, logits: upload(gpu, logits), seen, keys, blocks }),
      pick({ params, settings, blocks, keys, list, seen, tokens, result }),
    ];
    const words = async (run: typeof steps, buffer: GPUBuffer, count: number) =>
      new Uint32Array((await runSteps(gpu, run, 1, buffer, count)).buffer);
    return {
      at: (position: number): Promise<Uint32Array> => {
        gpu.device.queue.writeBuffer(params, 0, Uint32Array.of(1, position - 3, 2));
        return words(steps, result, 4);
      },
      tokens: () => words([], tokens, 1),
      seen: () => words([], seen, seenWords(vocab)),
    };
  };

  it.each([1, 7, 257, 1500])(
    'takes the highest of %i, the lowest id of equal ones',
    async (vocab) => {
      const logits = testNumbers(vocab, 3);
      const most = logits.reduce((a, b) => Math.max(a, b));
      logits[vocab - 1] = most;
      const sampler = await open(logits, { ...plain, temperature: 0 });
      const [token, wrong, , position] = await sampler.at(9);
      expect([token, wrong, position]).toEqual([logits.indexOf(most), NONE_WRONG, 9]);
      expect([...(await sampler.tokens())]).toEqual([token]);
    },
  );

  it.each<[string, Partial<SampleSettings>]>([
    ['top k', { topK: 3, temperature: 5 }],
    ['top k among equals', { topK: 5, temperature: 100 }],
    ['top p', { topP: 0.7 }],
    ['min p', { minP: 0.3 }],
    ['all of them', { topK: 12, topP: 0.9, minP: 0.05, temperature: 2 }],
  ])('%s: what may come comes, and nothing else', async (_, more) => {
    const how = { ...plain, ...more };
    const logits = Float32Array.from({ length: 40 }, (_, id) => 4 - Math.floor(id / 3) / 2);
    const expected = possible(logits, how);
    expect(expected.length).toBeLessThan(logits.length);
    const sampler = await open(logits, how);
    const came = new Set<number>();
    for (let position = 4; position < 64; position++) {
      came.add((await sampler.at(position))[0] ?? -1);
    }
    const rare = 60 / 12; // tokens that are likely enough to have come
    for (const id of came) expect(expected).toContain(id);
    expect(came.size).toBeGreaterThanOrEqual(Math.min(expected.length, rare) - 1);
  });

  it('counts the last 256 tokens', async () => {
    const logits = Float32Array.from([0, 0.5, 1, 0.2]);
    const said = Array.from({ length: 250 }, (_, i) => i % 3);
    const sampler = await open(logits, { ...plain, temperature: 2 }, said);
    for (let position = 4 + said.length; position < 270; position++) {
      said.push((await sampler.at(position))[0] ?? -1);
    }
    const expected = new Uint32Array(seenWords(4));
    writeSeen(expected, 4, 4, said);
    expect(await sampler.seen()).toEqual(expected);
    expect(said).toHaveLength(266);
  });
});
