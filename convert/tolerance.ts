import type { KnownAnswer } from '../src/format/manifest.ts';

/**
 * How far a backend's logits may be from the known ones, as parts of their size.
 *
 * A logit is a dot product of the last hidden state with a row of unit length, so its rounding
 * error grows with the length of that state, as the highest logits do: a model with logits around
 * 8 and one with logits around 2 need different numbers. Measured against the reference (f64):
 * PyTorch in f32 is off by at most 3e-6 of that size; f32 accumulation with every activation
 * rounded to f16 by 5e-4 to 1e-3 (trained, 8 and 2 layers) and 2e-3 (random weights). What must not pass: in the
 * trained tiny model the gates of another task change known logits by 0.016 to 0.025 of their size,
 * a missing adapter by 0.13, a wrong kernel by all of it. The factors lie between.
 */
const F32_SHARE = 0.001;
const F16_SHARE = 0.01;
/** Below these, the five decimals of the stored logits would begin to count. */
const F32_LEAST = 0.001;
const F16_LEAST = 0.01;

export function tolerance(tasks: KnownAnswer['tasks']): KnownAnswer['tolerance'] {
  const logits = Object.values(tasks).flatMap(({ top }) => top.flat().map(({ logit }) => logit));
  const squares = logits.reduce((sum, logit) => sum + logit * logit, 0);
  const size = Math.sqrt(squares / Math.max(logits.length, 1));
  const rounded = (value: number) => Number(value.toPrecision(2));
  return {
    f32: rounded(Math.max(F32_SHARE * size, F32_LEAST)),
    f16: rounded(Math.max(F16_SHARE * size, F16_LEAST)),
  };
}
