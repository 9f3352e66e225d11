import { beforeAll, describe, expect, it } from 'vitest';
import { Tokenizer } from '../src/text/tokenizer.ts';
import { answers, promptTokens } from './known-answer.ts';
import { blockReader } from './reader.ts';
import { Reference } from './reference.ts';
import { run, type Run } from './testing-run.ts';
import { card, checkpointFiles, mergedAdapterFiles, tokenizerJson } from './testing.ts';
import { tolerance } from './tolerance.ts';

let one: Run;
beforeAll(async () => {
  one = await run(checkpointFiles(), mergedAdapterFiles());
});

/** The sorted logits of the last of some tokens, computed without a cache. */
async function last(task: string, tokens: readonly number[]) {
  const model = new Reference(one.manifest, blockReader(one.out));
  const rows = await model.forward([{ sequence: model.start(task), tokens }]);
  return [...(rows.at(-1) ?? [])]
    .map((logit, id) => ({ id, logit }))
    .sort((a, b) => b.logit - a.logit || a.id - b.id);
}

describe('known answers', () => {
  it('are asked with the first sixteen tokens of the templated prompt', () => {
    const tokenizer = Tokenizer.parse(tokenizerJson());
    const prompts = { medkqa: '宝宝', evidiag: '宝'.repeat(30), unknown: 'x' };
    const tokens = promptTokens(tokenizer, card, prompts);
    const parts = ['Human: ', '宝宝', '\nAssistant: '].flatMap((text) => tokenizer.encode(text));
    expect(parts.length).toBeGreaterThan(16);
    expect(tokens.get('medkqa')).toEqual(parts.slice(0, 16));
    expect(tokens.get('evidiag')).toHaveLength(16);
    expect([...tokens.keys()]).toEqual(['medkqa', 'evidiag']);
    expect([...promptTokens(tokenizer, card, { evidiag: 'a' }).keys()]).toEqual(['evidiag']);
  });

  it('hold the five highest logits at every position', async () => {
    for (const [task, { tokens, top }] of Object.entries(one.manifest.knownAnswer?.tasks ?? {})) {
      expect(top).toHaveLength(tokens.length);
      for (const [position, row] of top.entries()) {
        const sorted = await last(task, tokens.slice(0, position + 1));
        expect(row.map(({ id }) => id)).toEqual(sorted.slice(0, 5).map(({ id }) => id));
        row.forEach(({ logit }, i) => expect(logit).toBeCloseTo(sorted[i]?.logit ?? NaN, 4.9));
      }
    }
  });

  it('go on greedily as long as, and only as long as, the best is clear', async () => {
    const ends = [];
    for (const [task, { tokens, greedy }] of Object.entries(
      one.manifest.knownAnswer?.tasks ?? {},
    )) {
      const so_far = [...tokens];
      for (const token of greedy) {
        const [best, second] = await last(task, so_far);
        expect(best?.id).toBe(token);
        expect((best?.logit ?? 0) - (second?.logit ?? 0)).toBeGreaterThanOrEqual(0.0999);
        so_far.push(token);
      }
      ends.push(greedy.length);
      if (greedy.length === 8) continue;
      const [best, second] = await last(task, so_far);
      expect((best?.logit ?? 0) - (second?.logit ?? 0)).toBeLessThan(0.1001);
    }
    expect(Math.max(...ends)).toBeGreaterThan(0); // some tail was there to be looked at
    expect(Math.max(...ends)).toBeLessThanOrEqual(8);
  });

  it('end before a stop token', async () => {
    const tail = Object.entries(one.manifest.knownAnswer?.tasks ?? {}).find(
      ([, { greedy }]) => greedy.length > 1,
    );
    if (tail === undefined) throw new Error('no tail');
    const [task, { tokens, greedy }] = tail;
    const stop = greedy[1] ?? -1;
    const read = blockReader(one.out);
    const stopped = await answers(one.manifest, read, new Map([[task, tokens]]), [stop]);
    expect(stopped[task]?.greedy).toEqual(greedy.slice(0, greedy.indexOf(stop)));
  });

  it('have a tolerance that follows the size of the logits, and is never nothing', () => {
    const row = [8, 8, 8, 8, 8].map((logit, id) => ({ id, logit }));
    const of = (logit: number) =>
      tolerance({ t: { tokens: [1], top: [row.map(({ id }) => ({ id, logit }))], greedy: [] } });
    expect(of(8)).toEqual({ f32: 0.008, f16: 0.08 });
    expect(of(-4)).toEqual({ f32: 0.004, f16: 0.04 });
    expect(of(0)).toEqual({ f32: 0.001, f16: 0.01 });
  });
});
