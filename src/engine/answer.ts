import { failureName } from '../failure.ts';
import { TokenStream, type TokenMeanings } from '../text/stream.ts';
import type {
  GenerateEvent,
  GenerateResult,
  SamplingSettings,
  TokenLogprob,
} from '../worker/api.ts';
import type { Backend } from './backend.ts';
import { CpuChooser, RunChooser, type Chooser, type ChooserParts, type Chosen } from './chooser.ts';
import type { Constraint } from './constraint/constraint.ts';
import { logprobOf } from './logprobs.ts';
import type { Session } from './session.ts';

/** One answer to be given: a prompt, how to sample, and where to say what happens. */
export interface AnswerPlan {
  readonly prompt: readonly number[];
  /**
   * A pass ends after so many tokens, 0 for anywhere: those before are kept between visits, and
   * those after are computed by the same passes whether they were or not.
   */
  readonly prefix: number;
  readonly sampling: SamplingSettings;
  readonly seed: number;
  /** How many alternatives' log-probabilities beside each token's; undefined: none at all. */
  readonly logprobs: number | undefined;
  /** Tokens per second that an earlier prefill made; 0 while there was none. */
  readonly expectedRate: number;
  readonly stopIds: readonly number[];
  readonly meanings: TokenMeanings;
  readonly onEvent: (event: GenerateEvent) => void;
  /** Called when a decode step has ended. */
  readonly onDecodeStep: () => void;
  readonly signal: AbortSignal | undefined;
  /** What the answer has to look like; null for anything. */
  readonly constraint: Constraint | null;
  /** The backend of now. */
  readonly backend: () => Backend;
  /**
   * Puts another backend in place after an error of the GPU, with an empty KV cache.
   * @throws the error where nothing helps
   */
  readonly recover: (error: unknown) => Promise<void>;
}

type Prefilled = Pick<GenerateResult, 'reusedTokens' | 'prefillTokensPerSecond'> & {
  /** Logits of the last prompt token; null where the answer was stopped before. */
  readonly logits: Float32Array | null;
};
type Decoded = Pick<
  GenerateResult,
  'text' | 'tokens' | 'decodeTokensPerSecond' | 'finish' | 'logprobs'
>;
/** What an answer is without what only the engine knows. */
export type Answered = Omit<
  GenerateResult,
  'taskSwitchMs' | 'droppedQuestions' | 'ran' | 'recoveries'
>;

/** Computes what the KV cache does not hold of the prompt, then one token after the other. */
export async function answer(session: Session, plan: AnswerPlan): Promise<Answered> {
  const { logits, ...prefilled } = await prefill(session, plan, plan.prompt);
  const decoded = await decode(session, plan, logits);
  return {
    ...prefilled,
    ...decoded,
    promptTokens: plan.prompt.length,
    outputTokens: decoded.tokens.length,
  };
}

/** `compute`, on one backend after the other for as long as there is another. */
async function prefill(
  session: Session,
  plan: AnswerPlan,
  sequence: readonly number[],
): Promise<Prefilled> {
  for (;;) {
    try {
      return await compute(session, plan, sequence);
    } catch (error) {
      await plan.recover(error);
    }
  }
}

/** Logits after these tokens; computes those that the cache does not hold. */
async function compute(
  session: Session,
  plan: AnswerPlan,
  sequence: readonly number[],
): Promise<Prefilled> {
  const { backend: current, prefix, onEvent, signal, expectedRate } = plan;
  const backend = current();
  const reusedTokens = session.reusable(sequence);
  const start = performance.now();
  const total = sequence.length - reusedTokens;
  const onProgress = (done: number): void => {
    const rate = done === 0 ? expectedRate : perSecond(done, start);
    const remainingMs = rate === 0 ? null : Math.round(((total - done) * 1000) / rate);
    onEvent({ kind: 'prefill', done, total, remainingMs });
  };
  backend.truncate(reusedTokens);
  onProgress(0);
  let logits: Float32Array | null = null;
  try {
    const cut = reusedTokens < prefix && prefix < sequence.length ? [prefix] : [];
    let from = reusedTokens;
    for (const to of [...cut, sequence.length]) {
      const before = from - reusedTokens;
      logits = null;
      logits = await backend.prefill(sequence.slice(from, to), {
        onProgress: (done) => {
          onProgress(before + done);
        },
        read: !choosesItself(plan, backend),
        ...(signal === undefined ? {} : { signal }),
      });
      from = to;
    }
  } catch (error) {
    if (failureName(error) !== 'Cancelled') throw error;
  }
  const computed = backend.position - reusedTokens;
  session.holds(sequence.slice(0, backend.position));
  return { logits, reusedTokens, prefillTokensPerSecond: perSecond(computed, start) };
}

async function decode(
  session: Session,
  plan: AnswerPlan,
  afterPrompt: Float32Array | null,
): Promise<Decoded> {
  const { prompt, sampling, stopIds, onEvent, signal } = plan;
  const stream = new TokenStream(plan.meanings);
  const most = Math.min(sampling.maxTokens, plan.backend().config.capacity - prompt.length);
  const tokens: number[] = [];
  const logprobs: TokenLogprob[] = [];
  let text = '';
  const say = (piece: string): void => {
    if (piece === '') return;
    text += piece;
    onEvent({ kind: 'piece', text: piece, outputTokens: tokens.length });
  };
  let steps = 0;
  const onStep = (kept: number | null): void => {
    if (kept !== null) session.append(kept);
    steps += 1;
    plan.onDecodeStep();
  };
  const stopped = (): boolean => signal?.aborted === true;
  const start = performance.now();
  let finish: Decoded['finish'] = 'length';
  let chooser = most > 0 ? chooserOf(plan, { tokens, most, onStep }, afterPrompt) : null;
  try {
    while (tokens.length < most) {
      if (chooser === null || stopped()) {
        finish = 'cancelled';
        break;
      }
      let chosen: Chosen;
      try {
        chosen = await chooser.next();
      } catch (error) {
        chooser = null; // it has ended by itself
        await plan.recover(error);
        // Logits as they were before the error, from another backend; null where it was stopped.
        const { logits } = await prefill(session, plan, [...prompt, ...tokens]);
        chooser = chooserOf(plan, { tokens, most, onStep }, logits);
        continue;
      }
      const { token, logits } = chosen;
      if (stopped()) continue;
      if (stopIds.includes(token)) {
        finish = 'stop';
        break;
      }
      plan.constraint?.accept(token);
      tokens.push(token);
      if (plan.logprobs !== undefined && logits !== null) {
        logprobs.push(logprobOf(logits, token, plan.logprobs));
      }
      say(stream.push(token));
    }
  } finally {
    await chooser?.end();
  }
  plan.backend().truncate(session.length);
  say(stream.flush());
  const decodeTokensPerSecond = perSecond(steps, start);
  const asked = plan.logprobs === undefined ? {} : { logprobs };
  return { text, tokens, decodeTokensPerSecond, finish, ...asked };
}

/** Whether tokens are chosen where the logits are: it can, and nothing else has to see them. */
function choosesItself({ constraint, logprobs }: AnswerPlan, backend: Backend): boolean {
  return constraint === null && logprobs === undefined && backend.run !== undefined;
}

/** Null where there are no logits. */
function chooserOf(
  plan: AnswerPlan,
  how: Pick<ChooserParts, 'tokens' | 'most' | 'onStep'>,
  logits: Float32Array | null,
): Chooser | null {
  if (logits === null) return null;
  const { prompt, sampling, seed, constraint } = plan;
  const backend = plan.backend();
  const parts = { backend, prompt, sampling, seed, constraint, ...how };
  const { tokens: answer, most } = how;
  const run = choosesItself(plan, backend)
    ? backend.run?.({ sampling, seed, answer, most: most - answer.length })
    : undefined;
  return run === undefined ? new CpuChooser(parts, logits) : new RunChooser(parts, run);
}

/** A rate since `start`, 0 where nothing was done. */
function perSecond(count: number, start: number): number {
  const seconds = (performance.now() - start) / 1000;
  return count === 0 ? 0 : count / Math.max(seconds, 1e-6);
}
