import { Failure } from '../failure.ts';
import type { SamplingSettings } from '../worker/api.ts';
import { isAllowed } from './constraint/constraint.ts';
import { randomAt } from './random.ts';

/** What the choice of one token depends on. */
export type SampleSettings = Omit<SamplingSettings, 'maxTokens'>;

/** The repetition penalty looks back this many tokens of the answer. */
export const PENALTY_WINDOW = 256;

/** A smaller temperature counts as 0: the smallest number that every GPU tells from it. */
const SMALLEST_NORMAL = 2 ** -126;

/** A token that may be chosen, with its logit after the penalty. */
interface Candidate {
  readonly id: number;
  readonly logit: number;
}

/**
 * Chooses the next token from logits [V]. Pure: the same arguments give the same token.
 *
 * In this order: the repetition penalty (a positive logit of a token in `recent` is divided by
 * it, a negative one multiplied), the presence penalty (taken off the logit of the same tokens),
 * then for temperature 0 the highest logit; otherwise the `topK` highest, softmax with
 * temperature, of these the fewest whose sum reaches `topP`, of these those that are at least
 * `minP` times as likely as the likeliest, and one of them by a random number that depends on
 * seed and position alone. Equal logits: lower id first.
 *
 * @param recent tokens of the answer so far; the last 256 count
 * @param position where the token will stand in the sequence: the counter of the random number
 * @param allowed bit set of the tokens that may be chosen; left out: all of them
 * @throws Failure WrongNumbers for a logit that is not finite; RangeError for senseless settings
 */
export function sample(
  logits: Float32Array,
  settings: SampleSettings,
  recent: readonly number[],
  seed: number,
  position: number,
  allowed?: Int32Array,
): number {
  checkSettings(settings);
  checkLogits(logits);
  const penalised = withPenalties(logits, settings, recent);
  const scores = allowed === undefined ? penalised : masked(penalised, allowed);
  if (settings.temperature < SMALLEST_NORMAL || settings.topK === 1) return argmax(scores);
  const candidates = highest(scores, settings.topK === 0 ? scores.length : settings.topK);
  const possible = candidates.filter(({ logit }) => logit > -Infinity);
  return choose(possible, settings, randomAt(seed, position));
}

/** The id of the highest value, the lowest such id. */
export function argmax(values: Float32Array): number {
  let best = 0;
  let bestValue = values[0] ?? -Infinity;
  for (let id = 1; id < values.length; id++) {
    const value = values[id] ?? -Infinity;
    if (value > bestValue) {
      best = id;
      bestValue = value;
    }
  }
  return best;
}

/** @throws RangeError for settings without a sense */
export function checkSettings(settings: SampleSettings): void {
  const { temperature, topK, topP, repetitionPenalty, presencePenalty = 0, minP = 0 } = settings;
  const good =
    Number.isFinite(temperature) &&
    temperature >= 0 &&
    Number.isInteger(topK) &&
    topK >= 0 &&
    topP >= 0 &&
    topP <= 1 &&
    Number.isFinite(repetitionPenalty) &&
    repetitionPenalty > 0 &&
    Number.isFinite(presencePenalty) &&
    minP >= 0 &&
    minP <= 1;
  if (!good) throw new RangeError(`sampling settings out of range: ${JSON.stringify(settings)}`);
}

function checkLogits(logits: Float32Array): void {
  if (logits.length === 0) throw new RangeError('no logits');
  for (let id = 0; id < logits.length; id++) {
    if (!Number.isFinite(logits[id])) {
      throw new Failure('WrongNumbers', `logit ${id} is ${String(logits[id])}`);
    }
  }
}

function withPenalties(
  logits: Float32Array,
  { repetitionPenalty, presencePenalty = 0 }: SampleSettings,
  recent: readonly number[],
): Float32Array {
  if ((repetitionPenalty === 1 && presencePenalty === 0) || recent.length === 0) return logits;
  const scores = logits.slice();
  // Rounded as a GPU does after every step.
  const [repetition, presence] = [Math.fround(repetitionPenalty), Math.fround(presencePenalty)];
  for (const id of recent.slice(-PENALTY_WINDOW)) {
    const logit = logits[id]; // not the score: a token that occurs twice counts once
    if (logit === undefined) continue;
    const repeated = logit > 0 ? logit / repetition : logit * repetition;
    scores[id] = Math.fround(repeated) - presence;
  }
  return scores;
}

/** What may not be chosen has no chance. @throws RangeError where nothing may be */
function masked(scores: Float32Array, allowed: Int32Array): Float32Array {
  let some = false;
  const left = scores.map((score, id) => {
    const may = isAllowed(allowed, id);
    some ||= may;
    return may ? score : -Infinity;
  });
  if (!some) throw new RangeError('no token is allowed');
  return left;
}

/** From this many candidates on, sorting everything costs less than keeping a short list. */
const SORT_FROM = 512;

/** The `count` highest scores, highest first; equal ones by id. */
function highest(scores: Float32Array, count: number): Candidate[] {
  if (count >= Math.min(scores.length, SORT_FROM)) {
    const all = Array.from(scores, (logit, id) => ({ id, logit }));
    return all.sort((a, b) => b.logit - a.logit).slice(0, count); // stable: equal ones by id
  }
  // Kept in order; most scores fail against the last and cost one comparison.
  const kept: Candidate[] = [];
  for (let id = 0; id < scores.length; id++) {
    const logit = scores[id] ?? -Infinity;
    const last = kept[count - 1];
    if (last !== undefined && logit <= last.logit) continue;
    let at = Math.min(kept.length, count - 1);
    while (at > 0 && (kept[at - 1]?.logit ?? Infinity) < logit) at -= 1;
    kept.splice(at, 0, { id, logit });
    if (kept.length > count) kept.pop();
  }
  return kept;
}

/** A weight of 1. Whole numbers sum up to the same in any order, so a GPU draws the same token. */
const UNIT = 2 ** 24;

/** Softmax of the candidates, cut at `topP` and `minP`, and the one the random number falls on. */
function choose(
  candidates: readonly Candidate[],
  { temperature, topP, minP = 0 }: SampleSettings,
  random: number,
): number {
  const { fround } = Math;
  const top = candidates[0]?.logit ?? 0;
  const weights = candidates.map(({ logit }) => {
    const exponent = fround(fround(logit - top) / fround(temperature));
    return Math.round(Math.exp(exponent) * UNIT);
  });
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let kept = 0;
  let mass = 0;
  // At least one is kept, whatever topP is.
  while (kept < weights.length && (kept === 0 || mass < fround(topP) * total)) {
    const weight = weights[kept] ?? 0; // of the likeliest: UNIT
    if (kept > 0 && weight < fround(minP) * UNIT) break;
    mass += weight;
    kept += 1;
  }
  let left = random * mass;
  for (let i = 0; i < kept; i++) {
    left -= weights[i] ?? 0;
    if (left < 0) return candidates[i]?.id ?? 0;
  }
  return candidates[kept - 1]?.id ?? 0; // rounding left a little over
}
