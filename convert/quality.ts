import { Reference, type Step } from './reference.ts';
import type { Rows } from './reference-math.ts';
import { stopIfAborted } from './files.ts';
import type { ReadableModel } from './unwritten.ts';

/**
 * What rounding does to what a model says: distributions of the next token, before and after, at
 * every token of some texts. Computed by the reference, in f64.
 */

/** Tokens of a text, under the gates of a task. */
export interface TaskTokens {
  readonly task: string;
  readonly tokens: readonly number[];
}

/** A model's likelihood of the texts, and how far it is from the source. */
export interface Quality {
  /** Tokens that were predicted: all but the first of every text. */
  readonly tokens: number;
  /** exp of the mean of -ln p(token), of the source and of this model. */
  readonly sourcePerplexity: number;
  readonly perplexity: number;
  /** Mean of KL(source || model), in nats per token. */
  readonly kl: number;
  /** The share of tokens at which both have the same likeliest token. */
  readonly top1: number;
}

interface QualityOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

/** Logits of so many values are held at once, of each of two models. */
const LOGITS = 1 << 22;

/** Multiply-adds of one model over these tokens, without attention. */
export function workOf({ model }: ReadableModel, texts: readonly TaskTokens[]): number {
  const weights = model.tensors
    .filter(({ name }) => name !== 'embed' || model.config.tiedHead)
    .reduce((sum, { shape }) => sum + shape.reduce((product, one) => product * one, 1), 0);
  return weights * texts.reduce((sum, { tokens }) => sum + tokens.length, 0);
}

/**
 * Compares models with the one that they were made from.
 * @param texts none longer than the models' capacity; those of one token predict nothing
 * @returns a row for each model
 * @throws Failure Cancelled, and what reading says
 */
export async function compareModels(
  source: ReadableModel,
  models: readonly ReadableModel[],
  texts: readonly TaskTokens[],
  { signal, onProgress }: QualityOptions = {},
): Promise<readonly Quality[]> {
  const total = (1 + models.length) * source.model.config.layers;
  let done = 0;
  const passes: Pass[] = [];
  for (const { model, readBlock } of [source, ...models]) {
    const read: ReadableModel['readBlock'] = (block) => {
      stopIfAborted(signal);
      return readBlock(block);
    };
    const onLayer = () => onProgress?.(Math.min(++done, total), total);
    passes.push(await passOf({ model, readBlock: read }, texts, onLayer));
  }
  const next = texts.flatMap(({ tokens }) => tokens.slice(1));
  const sums = models.map(() => ({ kl: 0, same: 0, lost: 0 }));
  let sourceLost = 0;
  const step = Math.max(1, Math.floor(LOGITS / source.model.config.vocab));
  const [first, ...others] = passes;
  for (let from = 0; from < next.length; from += step) {
    const ids = next.slice(from, from + step);
    const expected = (await first?.logits(from, from + step))?.map(logProbabilities) ?? [];
    ids.forEach((id, m) => (sourceLost -= expected[m]?.[id] ?? NaN));
    for (const [i, pass] of others.entries()) {
      const sum = sums[i];
      if (sum === undefined) continue;
      const found = (await pass.logits(from, from + step)).map(logProbabilities);
      ids.forEach((id, m) => {
        const [p, q] = [expected[m] ?? NONE, found[m] ?? NONE];
        sum.lost -= q[id] ?? NaN;
        sum.kl += divergence(p, q);
        sum.same += likeliest(p) === likeliest(q) ? 1 : 0;
      });
    }
  }
  const mean = (sum: number) => sum / next.length;
  return sums.map(({ kl, same, lost }) => ({
    tokens: next.length,
    sourcePerplexity: Math.exp(mean(sourceLost)),
    perplexity: Math.exp(mean(lost)),
    kl: mean(kl),
    top1: mean(same),
  }));
}

const NONE = new Float64Array();

/** What leaves the last layer at every token that has a next one. */
interface Pass {
  /** Logits [V] of rows [from, to) of these tokens. */
  logits(from: number, to: number): Promise<Rows>;
}

async function passOf(
  { model, readBlock }: ReadableModel,
  texts: readonly TaskTokens[],
  onLayer: () => void,
): Promise<Pass> {
  const reference = new Reference(model, readBlock, onLayer);
  const steps = texts.map(({ task, tokens }): Step => ({
    sequence: reference.start(task),
    tokens,
  }));
  const hidden = await reference.hidden(steps);
  const last = new Set<number>();
  texts.reduce((end, { tokens }) => (last.add(end + tokens.length - 1), end + tokens.length), 0);
  const kept = hidden.filter((_, m) => !last.has(m));
  // No adapter on the head: which sequence a row belongs to does not matter any more.
  return { logits: (from, to) => reference.logits(kept.slice(from, to), []) };
}

/** ln softmax, in place. */
function logProbabilities(logits: Float64Array): Float64Array {
  let most = -Infinity;
  for (const logit of logits) if (logit > most) most = logit;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - most);
  const all = most + Math.log(sum);
  for (let i = 0; i < logits.length; i++) logits[i] = (logits[i] ?? 0) - all;
  return logits;
}

/** KL(p || q) of ln p and ln q, in nats. */
function divergence(p: Float64Array, q: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < p.length; i++) {
    const own = p[i] ?? 0;
    sum += Math.exp(own) * (own - (q[i] ?? NaN));
  }
  return sum;
}

/** The id of the highest value, of equal ones the lowest. */
function likeliest(values: Float64Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if ((values[i] ?? 0) > (values[best] ?? 0)) best = i;
  return best;
}
