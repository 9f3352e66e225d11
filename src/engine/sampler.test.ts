import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Failure } from '../failure.ts';
import { randomAt } from './random.ts';
import { sample, type SampleSettings } from './sampler.ts';

const plain: SampleSettings = { temperature: 1, topK: 0, topP: 1, repetitionPenalty: 1 };
const greedy: SampleSettings = { ...plain, temperature: 0 };
const of = (...logits: number[]): Float32Array => Float32Array.from(logits);

/** Which tokens come over many positions. */
function seen(logits: Float32Array, settings: SampleSettings, draws = 2000): Set<number> {
  const positions = Array.from({ length: draws }, (_, position) => position);
  return new Set(positions.map((position) => sample(logits, settings, [], 7, position)));
}

/** Pearson's statistic of counts against shares of their sum. */
function chiSquare(counts: readonly number[], shares: readonly number[]): number {
  const total = counts.reduce((sum, count) => sum + count, 0);
  return counts.reduce((sum, count, i) => {
    const expected = total * (shares[i] ?? 0);
    return sum + (count - expected) ** 2 / expected;
  }, 0);
}

describe('random numbers', () => {
  it('depend on seed and position alone and lie in [0, 1)', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 0 }), (seed, position) => {
        const value = randomAt(seed, position);
        expect(value).toBe(randomAt(seed, position));
        expect(value).toBeGreaterThanOrEqual(0);
        expect(value).toBeLessThan(1);
      }),
    );
  });

  it.each([
    ['positions', (i: number) => randomAt(12345, i)],
    ['seeds', (i: number) => randomAt(i, 40)],
    ['both', (i: number) => randomAt(i & 127, i >> 7)],
  ])('are even over %s', (_, at) => {
    const bins = Array.from({ length: 64 }, () => 0);
    for (let i = 0; i < 64_000; i++) {
      const bin = Math.floor(at(i) * 64);
      bins[bin] = (bins[bin] ?? 0) + 1;
    }
    // 63 degrees of freedom: 103 is passed once in a thousand by true randomness.
    expect(
      chiSquare(
        bins,
        bins.map(() => 1 / 64),
      ),
    ).toBeLessThan(103);
  });

  it('do not repeat from one position or seed to the next', () => {
    let along = 0;
    let across = 0;
    for (let i = 0; i < 20_000; i++) {
      along += (randomAt(3, i) - 0.5) * (randomAt(3, i + 1) - 0.5);
      across += (randomAt(i, 3) - 0.5) * (randomAt(i + 1, 3) - 0.5);
    }
    // Correlation of neighbours: a twelfth of 20,000 is the scale, four deviations the limit.
    const limit = (4 * Math.sqrt(20_000)) / 12;
    expect(Math.abs(along)).toBeLessThan(limit);
    expect(Math.abs(across)).toBeLessThan(limit);
  });
});

describe('sampler', () => {
  it('gives the same token for the same arguments and leaves the logits alone', () => {
    const logits = fc.array(fc.float({ min: -20, max: 20, noNaN: true }), { minLength: 1 });
    fc.assert(
      fc.property(logits, fc.nat(), fc.nat(), fc.array(fc.nat(50)), (values, seed, at, recent) => {
        const input = Float32Array.from(values);
        const settings = { temperature: 0.8, topK: 5, topP: 0.9, repetitionPenalty: 1.2 };
        const token = sample(input, settings, recent, seed, at);
        expect(sample(input, settings, recent, seed, at)).toBe(token);
        expect([...input]).toEqual([...Float32Array.from(values)]);
        expect(token).toBeLessThan(values.length);
      }),
    );
  });

  it('draws tokens as often as the softmax says', () => {
    const logits = [0, 1, 2, 0.5, -1];
    const temperature = 0.7;
    const weights = logits.map((logit) => Math.exp(logit / temperature));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const counts = logits.map(() => 0);
    for (let position = 0; position < 20_000; position++) {
      const token = sample(of(...logits), { ...plain, temperature }, [], 99, position);
      counts[token] = (counts[token] ?? 0) + 1;
    }
    // 4 degrees of freedom: 18.5 is passed once in a thousand by true randomness.
    expect(
      chiSquare(
        counts,
        weights.map((weight) => weight / total),
      ),
    ).toBeLessThan(18.5);
  });

  it('takes the highest logit at temperature 0, and the lowest id of equal ones', () => {
    expect(sample(of(1, 5, 2, 5), greedy, [], 1, 1)).toBe(1);
    expect(sample(of(0, 0, 0), greedy, [], 1, 1)).toBe(0);
    expect(sample(of(-3, -2, -2), greedy, [], 1, 1)).toBe(1);
  });

  it('applies the penalty before it takes the highest', () => {
    const settings = { ...greedy, repetitionPenalty: 2 };
    expect(sample(of(1, 3, 2), settings, [1], 1, 1)).toBe(2); // 3 / 2 < 2
    expect(sample(of(-3, -2, -1), settings, [2], 1, 1)).toBe(1); // -1 * 2 ties with -2: lower id
    expect(sample(of(1, 3, 2), settings, [1, 1, 1, 1], 1, 1)).toBe(2); // once, not four times
    expect(sample(of(1, 3, 2), { ...greedy, repetitionPenalty: 1 }, [1], 1, 1)).toBe(1);
  });

  it('forgets tokens that came more than 256 ago', () => {
    const settings = { ...greedy, repetitionPenalty: 10 };
    const others = Array.from({ length: 256 }, () => 0);
    expect(sample(of(0, 3, 2), settings, [1, ...others.slice(1)], 1, 1)).toBe(2);
    expect(sample(of(0, 3, 2), settings, [1, ...others], 1, 1)).toBe(1);
  });

  it('keeps to the top k, and to all where k is 0 or larger than the vocabulary', () => {
    const logits = of(0, 1, 2, 1.5);
    expect(seen(logits, { ...plain, topK: 1 })).toEqual(new Set([2]));
    expect(seen(logits, { ...plain, topK: 2 })).toEqual(new Set([2, 3]));
    expect(seen(logits, { ...plain, topK: 0 })).toEqual(new Set([0, 1, 2, 3]));
    expect(seen(logits, { ...plain, topK: 99 })).toEqual(new Set([0, 1, 2, 3]));
  });

  it('breaks ties at the edge of top k by the lower id', () => {
    expect(seen(of(1, 1, 1, 1), { ...plain, topK: 2 })).toEqual(new Set([0, 1]));
    expect(seen(of(0, 1, 2, 1), { ...plain, topK: 2 })).toEqual(new Set([1, 2]));
  });

  it('keeps the fewest tokens whose share reaches top p, and always one', () => {
    const logits = of(Math.log(0.3), Math.log(0.5), Math.log(0.2));
    expect(seen(logits, { ...plain, topP: 0 })).toEqual(new Set([1]));
    expect(seen(logits, { ...plain, topP: 0.4 })).toEqual(new Set([1]));
    expect(seen(logits, { ...plain, topP: 0.6 })).toEqual(new Set([0, 1]));
    expect(seen(logits, { ...plain, topP: 0.9 })).toEqual(new Set([0, 1, 2]));
    expect(seen(logits, { ...plain, topP: 1 })).toEqual(new Set([0, 1, 2]));
  });

  it('breaks ties at the edge of top p by the lower id', () => {
    expect(seen(of(1, 1, 1, 1), { ...plain, topP: 0.5 })).toEqual(new Set([0, 1]));
  });

  it('measures top p among the top k', () => {
    const logits = of(Math.log(0.4), Math.log(0.3), Math.log(0.3));
    // Of the two kept, the first holds 4/7: it alone reaches 0.5.
    expect(seen(logits, { ...plain, topK: 2, topP: 0.5 })).toEqual(new Set([0]));
    expect(seen(logits, { ...plain, topK: 2, topP: 0.6 })).toEqual(new Set([0, 1]));
  });

  it('finds the same top k as sorting does', () => {
    const logits = fc.array(fc.integer({ min: -9, max: 9 }), { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(logits, fc.integer({ min: 2, max: 41 }), (values, topK) => {
        const order = values.map((logit, id) => ({ logit, id }));
        order.sort((a, b) => b.logit - a.logit || a.id - b.id);
        const allowed = new Set(order.slice(0, topK).map(({ id }) => id));
        const hot = { ...plain, temperature: 100, topK };
        for (const id of seen(Float32Array.from(values), hot, 30)) expect(allowed).toContain(id);
      }),
    );
  });

  it('stays exact for very small temperatures and very large logits', () => {
    expect(seen(of(1e30, 1e29, -1e30), { ...plain, temperature: 1e-6 })).toEqual(new Set([0]));
  });

  it.each([NaN, Infinity, -Infinity])('refuses a logit that is %s', (value) => {
    const wrong = new Failure('WrongNumbers', `logit 1 is ${value}`);
    expect(() => sample(of(0, value, 1), greedy, [], 1, 1)).toThrow(wrong);
    expect(() => sample(of(0, value, 1), plain, [], 1, 1)).toThrow(wrong);
  });

  it.each([
    { temperature: -1 },
    { temperature: NaN },
    { topK: -1 },
    { topK: 1.5 },
    { topP: 1.1 },
    { topP: NaN },
    { repetitionPenalty: 0 },
  ])('refuses the setting %j', (wrong) => {
    expect(() => sample(of(0, 1), { ...plain, ...wrong }, [], 1, 1)).toThrow(RangeError);
  });
});

describe('presence penalty and min-p', () => {
  const off = { temperature: 1, topK: 0, topP: 1, repetitionPenalty: 1 };
  const logits = new Float32Array([3, 2.9, 1, -2]);

  it('takes the presence penalty off once, however often a token occurred', () => {
    const greedy = { ...off, temperature: 0 };
    expect(sample(logits, { ...greedy, presencePenalty: 0.05 }, [0, 0, 0], 1, 0)).toBe(0);
    expect(sample(logits, { ...greedy, presencePenalty: 0.2 }, [0], 1, 0)).toBe(1);
    expect(sample(logits, { ...greedy, presencePenalty: -1 }, [1], 1, 0)).toBe(1);
  });

  it('comes after the repetition penalty', () => {
    const greedy = { ...off, temperature: 0, repetitionPenalty: 1.1, presencePenalty: 0.1 };
    // 3 / 1.1 - 0.1 = 2.627 against 2.9 / 1.1 - 0.1 = 2.536, or 2.9 untouched
    expect(sample(logits, greedy, [0, 1], 1, 0)).toBe(0);
    expect(sample(logits, greedy, [0], 1, 0)).toBe(1);
  });

  it('leaves out what is less likely than the share of the likeliest', () => {
    const drawn = (minP: number): Set<number> =>
      new Set(Array.from({ length: 600 }, (_, at) => sample(logits, { ...off, minP }, [], 7, at)));
    expect([...drawn(0)].sort()).toEqual([0, 1, 2, 3]); // 0.49, 0.44, 0.066, 0.003
    expect([...drawn(0.05)].sort()).toEqual([0, 1, 2]);
    expect([...drawn(0.5)].sort()).toEqual([0, 1]);
    expect([...drawn(1)]).toEqual([0]);
  });

  it('refuses a share beyond 1 and a penalty that is no number', () => {
    expect(() => sample(logits, { ...off, minP: 1.5 }, [], 1, 0)).toThrow(RangeError);
    expect(() => sample(logits, { ...off, presencePenalty: NaN }, [], 1, 0)).toThrow(RangeError);
  });
});
