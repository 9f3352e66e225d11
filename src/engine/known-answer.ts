import { Failure } from '../failure.ts';
import type { KnownAnswer } from '../format/manifest.ts';
import { checkChoice, checkLongContext } from './agreement.ts';
import type { Backend } from './backend.ts';
import { argmax } from './sampler.ts';

/** How far a backend was from the record, and how far it may be. */
export interface KnownAnswerResult {
  readonly maxLogitDifference: number;
  readonly tolerance: number;
}

type Recorded = KnownAnswer['tasks'][string];

/** So many of the recorded tokens are computed one at a time too: decode has kernels of its own. */
const DECODED = 2;

/**
 * Runs the package's known answers, since a GPU can compute wrong numbers without a word. Every
 * task's tokens go through the prefill kernels, the last of them through the decode kernels as
 * well, and the greedy tail is followed. What they do not reach, the choice of tokens and long
 * contexts, is held against another way to the same numbers. Leaves the KV cache empty.
 * @param signal ends it between two tasks
 * @throws Failure WrongNumbers with task, position, and both numbers; the signal's reason
 */
export async function checkKnownAnswer(
  backend: Backend,
  known: KnownAnswer,
  signal?: AbortSignal,
): Promise<KnownAnswerResult> {
  const tolerance = known.tolerance[backend.eightBits === true ? 'f16' : backend.variant];
  let worst = 0;
  for (const [task, recorded] of Object.entries(known.tasks)) {
    signal?.throwIfAborted();
    const check = new Check(task, recorded, backend.config.vocab, tolerance);
    backend.setTask(task);
    const { logits } = await backend.forwardAll(recorded.tokens);
    recorded.tokens.forEach((_, t) => {
      check.compare(logits.subarray(t * check.vocab, (t + 1) * check.vocab), t);
    });
    await decodeAgain(backend, recorded, check);
    worst = Math.max(worst, check.worst);
  }
  signal?.throwIfAborted();
  const tokens = Object.values(known.tasks).at(-1)?.tokens ?? [];
  await checkChoice(backend, tokens);
  if (backend.longPaths === true) await checkLongContext(backend, tokens, tolerance);
  backend.truncate(0);
  return { maxLogitDifference: worst, tolerance };
}

/** The last tokens and the greedy tail, one decode step at a time. */
async function decodeAgain(backend: Backend, recorded: Recorded, check: Check): Promise<void> {
  const { tokens, greedy } = recorded;
  const prefilled = Math.max(1, tokens.length - DECODED);
  backend.truncate(0);
  let logits = await backend.prefill(tokens.slice(0, prefilled));
  check.compare(logits, prefilled - 1);
  for (let t = prefilled; t < tokens.length; t++) {
    logits = await backend.decode(tokens[t] ?? 0);
    check.compare(logits, t);
  }
  for (const [i, token] of greedy.entries()) {
    check.follows(logits, token, i);
    if (i + 1 < greedy.length) logits = await backend.decode(token);
  }
}

/** Holds one task's record against what was computed. */
class Check {
  worst = 0;
  readonly vocab: number;
  readonly #task: string;
  readonly #recorded: Recorded;
  readonly #tolerance: number;

  constructor(task: string, recorded: Recorded, vocab: number, tolerance: number) {
    this.#task = task;
    this.#recorded = recorded;
    this.vocab = vocab;
    this.#tolerance = tolerance;
  }

  /** The five recorded logits of position t. */
  compare(logits: Float32Array, t: number): void {
    if (logits.length !== this.vocab) throw this.#wrong(t, `${logits.length} logits`);
    for (const { id, logit } of this.#recorded.top[t] ?? []) {
      const computed = logits[id] ?? NaN;
      const difference = Math.abs(computed - logit);
      // Written so that NaN fails.
      if (!(difference <= this.#tolerance)) {
        throw this.#wrong(t, `token ${id} has logit ${computed}, recorded ${logit}`);
      }
      this.worst = Math.max(this.worst, difference);
    }
  }

  /** The recorded greedy token is the best one here too, or as good within the tolerance. */
  follows(logits: Float32Array, token: number, i: number): void {
    const best = argmax(logits);
    const behind = (logits[best] ?? NaN) - (logits[token] ?? NaN);
    if (!(behind <= 2 * this.#tolerance)) {
      const t = this.#recorded.tokens.length + i;
      throw this.#wrong(t, `token ${best} is ahead of the recorded ${token} by ${behind}`);
    }
  }

  #wrong(t: number, what: string): Failure {
    return new Failure('WrongNumbers', `known answer of ${this.#task}, position ${t}: ${what}`);
  }
}
