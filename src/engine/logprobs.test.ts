import { expect, it } from 'vitest';
import { logprobOf } from './logprobs.ts';

const logits = new Float32Array([1, 3, 3, -5, 100, 2]);

it('is the log of softmax, without overflow', () => {
  const { id, logprob } = logprobOf(logits, 1, 0);
  expect(id).toBe(1);
  expect(logprob).toBeCloseTo(-97, 4);
  const small = new Float32Array([1, 3, 2]);
  const whole = Math.log(Math.exp(1) + Math.exp(3) + Math.exp(2));
  expect(logprobOf(small, 2, 0).logprob).toBeCloseTo(2 - whole, 6);
});

it('names the likeliest first, equal ones by id, as many as were asked for', () => {
  expect(logprobOf(logits, 0, 4).top.map(({ id }) => id)).toEqual([4, 1, 2, 5]);
  expect(logprobOf(logits, 0, 99).top.map(({ id }) => id)).toEqual([4, 1, 2, 5, 0, 3]);
  expect(logprobOf(logits, 0, 0).top).toEqual([]);
});
