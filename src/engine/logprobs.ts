import type { TokenLogprob } from '../worker/api.ts';

/** So many alternatives may be asked for at most. */
export const MOST_ALTERNATIVES = 20;

/**
 * Natural logarithms of softmax(logits [V]) at `token` and at the `count` likeliest tokens, equal
 * ones by id. What the model said, before penalties and temperature.
 */
export function logprobOf(logits: Float32Array, token: number, count: number): TokenLogprob {
  let top = -Infinity;
  for (const logit of logits) top = Math.max(top, logit);
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - top);
  const whole = top + Math.log(sum);
  const at = (id: number): { id: number; logprob: number } => ({
    id,
    logprob: (logits[id] ?? -Infinity) - whole,
  });
  return { ...at(token), top: likeliest(logits, count).map(at) };
}

function likeliest(logits: Float32Array, count: number): number[] {
  const kept: number[] = [];
  const score = (id: number | undefined): number => logits[id ?? -1] ?? -Infinity;
  for (let id = 0; id < logits.length && count > 0; id++) {
    if (kept.length === count && score(id) <= score(kept.at(-1))) continue;
    let at = kept.length;
    while (at > 0 && score(kept[at - 1]) < score(id)) at -= 1;
    kept.splice(at, 0, id);
    kept.length = Math.min(kept.length, count);
  }
  return kept;
}
