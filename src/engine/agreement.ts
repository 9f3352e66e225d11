import { Failure } from '../failure.ts';
import type { Backend } from './backend.ts';
import { sample, type SampleSettings } from './sampler.ts';

/** What no record tells is held against another way to the same numbers. */

/** Tokens of three tiles of prefill and of three slices of attention, the last of both not full. */
const LONG = 140;
/** So many of them come once more: in a short pass all but the last, and that one by itself. */
const AGAIN = 6;
/** Two ways may each be as far off as one may be from the record, and twice that after so long. */
const APART = 4;

const greedy: SampleSettings = { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1 };
const drawn: SampleSettings = { temperature: 1, topK: 40, topP: 0.9, repetitionPenalty: 1 };
const SEEDS = [1, 2, 3];

/**
 * Holds a long context in one go against the same context with its end in small pieces: records
 * are too short for what GPUs do with more than one tile or slice.
 * @param tokens of which the context is made
 * @param tolerance of one logit against the record
 * @throws Failure WrongNumbers
 */
export async function checkLongContext(
  backend: Backend,
  tokens: readonly number[],
  tolerance: number,
): Promise<void> {
  const count = Math.min(LONG, backend.config.capacity);
  if (count <= AGAIN) return;
  const long = Array.from({ length: count }, (_, i) => tokens[i % tokens.length] ?? 0);
  backend.truncate(0);
  const whole = Float32Array.from(await backend.prefill(long));
  backend.truncate(count - AGAIN);
  await backend.prefill(long.slice(count - AGAIN, count - 1));
  const pieces = await backend.decode(long.at(-1) ?? 0);
  for (const [id, logit] of whole.entries()) {
    const other = pieces[id] ?? NaN;
    // Written so that NaN fails.
    if (Math.abs(logit - other) <= APART * tolerance) continue;
    const what = `token ${id} has logit ${logit} in one go and ${other} in pieces`;
    throw new Failure('WrongNumbers', `${count} tokens of context: ${what}`);
  }
}

/**
 * Holds the tokens that the backend chooses itself against what the CPU chooses by the same logits:
 * the likeliest, and some that are drawn, of which one may differ, since sums are rounded.
 * Does nothing where only the CPU chooses.
 * @throws Failure WrongNumbers
 */
export async function checkChoice(backend: Backend, tokens: readonly number[]): Promise<void> {
  if (backend.run === undefined) return;
  backend.truncate(0);
  const logits = Float32Array.from(await backend.prefill(tokens));
  const differs = async (sampling: SampleSettings, seed: number): Promise<string | null> => {
    const chosen = await choice(backend, sampling, seed);
    const expected = sample(logits, sampling, [], seed, tokens.length);
    return chosen === expected ? null : `the GPU chose token ${chosen}, the CPU ${expected}`;
  };
  const likeliest = await differs(greedy, 0);
  if (likeliest !== null) throw new Failure('WrongNumbers', `the likeliest token: ${likeliest}`);
  const others: string[] = [];
  for (const seed of SEEDS) {
    const what = await differs(drawn, seed);
    if (what !== null) others.push(what);
  }
  if (others.length < 2) return;
  throw new Failure('WrongNumbers', `drawing a token: ${others.join('; ')}`);
}

/** One token by the logits that are there. */
async function choice(backend: Backend, sampling: SampleSettings, seed: number): Promise<number> {
  const run = backend.run?.({ sampling, seed, answer: [], most: 1 });
  if (run === undefined) throw new RangeError(`${backend.name} chooses no tokens`);
  try {
    return await run.next();
  } finally {
    await run.end();
  }
}
