import { failureName } from '../failure.ts';
import { TokenStream, type TokenMeanings } from '../text/stream.ts';
import type {
  GenerateEvent,
  GenerateResult,
  SamplingSettings,
  TokenLogprob,
} from '../worker/api.ts';
import type { Backend } from './backend.ts';
import type { Constraint } from './constraint/constraint.ts';
import { logprobOf } from './logprobs.ts';
import { sample } from './sampler.ts';
import type { Session } from './session.ts';

/** One answer to be given: a prompt, how to sample, and where to say what happens. */
export interface AnswerPlan {
  readonly prompt: readonly number[];
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
export type Answered = Omit<GenerateResult, 'taskSwitchMs' | 'droppedQuestions' | 'recoveries'>;

/** Computes what the KV cache does not hold of the prompt, then one token after the other. */
export async function answer(session: Session, plan: AnswerPlan): Promise<Answered> {
  const { logits, ...prefilled } = await prefill(session, plan);
  const decoded = await decode(session, plan, logits);
  return {
    ...prefilled,
    ...decoded,
    promptTokens: plan.prompt.length,
    outputTokens: decoded.tokens.length,
  };
}

async function prefill(session: Session, plan: AnswerPlan): Promise<Prefilled> {
  try {
    return await compute(session, plan, plan.prompt);
  } catch (error) {
    await plan.recover(error);
    return compute(session, plan, plan.prompt);
  }
}

/** Logits after these tokens; computes those that the cache does not hold. */
async function compute(
  session: Session,
  { backend: current, onEvent, signal, expectedRate }: AnswerPlan,
  sequence: readonly number[],
): Promise<Prefilled> {
  const backend = current();
  const reusedTokens = session.reusable(sequence);
  const start = performance.now();
  const onProgress = (done: number, total: number): void => {
    const rate = done === 0 ? expectedRate : perSecond(done, start);
    const remainingMs = rate === 0 ? null : Math.round(((total - done) * 1000) / rate);
    onEvent({ kind: 'prefill', done, total, remainingMs });
  };
  backend.truncate(reusedTokens);
  onProgress(0, sequence.length - reusedTokens);
  let logits: Float32Array | null = null;
  try {
    const options = { onProgress, ...(signal === undefined ? {} : { signal }) };
    logits = await backend.prefill(sequence.slice(reusedTokens), options);
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
  const { prompt, sampling, seed, stopIds, onEvent, signal } = plan;
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
  const choose = async (logits: Float32Array): Promise<number> => {
    const allowed = await plan.constraint?.allowed();
    return sample(logits, sampling, tokens, seed, prompt.length + tokens.length, allowed);
  };
  /** Logits as they were before the error, from another backend; null where it was stopped. */
  const again = async (error: unknown): Promise<Float32Array | null> => {
    await plan.recover(error);
    return (await compute(session, plan, [...prompt, ...tokens])).logits;
  };
  const start = performance.now();
  let steps = 0;
  let finish: Decoded['finish'] = 'length';
  for (let logits = afterPrompt; tokens.length < most;) {
    if (logits === null || signal?.aborted === true) {
      finish = 'cancelled';
      break;
    }
    let token: number;
    try {
      token = await choose(logits);
    } catch (error) {
      logits = await again(error);
      if (logits === null) continue;
      token = await choose(logits);
    }
    if (stopIds.includes(token)) {
      finish = 'stop';
      break;
    }
    plan.constraint?.accept(token);
    tokens.push(token);
    if (plan.logprobs !== undefined) logprobs.push(logprobOf(logits, token, plan.logprobs));
    say(stream.push(token));
    // The last token of a full answer is never computed: nothing follows it.
    if (tokens.length === most) break;
    try {
      logits = await plan.backend().decode(token);
      session.append(token);
    } catch (error) {
      logits = await again(error);
    }
    steps += 1;
    plan.onDecodeStep();
  }
  say(stream.flush());
  const decodeTokensPerSecond = perSecond(steps, start);
  const asked = plan.logprobs === undefined ? {} : { logprobs };
  return { text, tokens, decodeTokensPerSecond, finish, ...asked };
}

/** A rate since `start`, 0 where nothing was done. */
function perSecond(count: number, start: number): number {
  const seconds = (performance.now() - start) / 1000;
  return count === 0 ? 0 : count / Math.max(seconds, 1e-6);
}
