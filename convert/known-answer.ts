import type { KnownAnswer, Manifest, TensorBlock } from '../src/format/manifest.ts';
import { encodeChat } from '../src/text/template.ts';
import type { Tokenizer } from '../src/text/tokenizer.ts';
import { Reference, type ReferenceModel } from './reference.ts';

/** The known-answer test of a package, computed from its written shards. */

const MAX_PROMPT = 16;
const MAX_GREEDY = 8;
const MIN_MARGIN = 0.1;
const TOP = 5;

type TaskAnswer = KnownAnswer['tasks'][string];

/** The first 16 tokens of each task's templated prompt. */
export function promptTokens(
  tokenizer: Tokenizer,
  { tasks, template }: Pick<Manifest, 'tasks' | 'template'>,
  prompts: Readonly<Record<string, string>>,
): ReadonlyMap<string, readonly number[]> {
  const tokens = new Map<string, readonly number[]>();
  for (const { id, system } of tasks) {
    const prompt = prompts[id];
    if (prompt === undefined) continue;
    const all = encodeChat(tokenizer, template, system, [{ role: 'user', text: prompt }]);
    tokens.set(id, all.slice(0, MAX_PROMPT));
  }
  return tokens;
}

/**
 * The five highest logits at every prompt token, and the greedy tail while it is clear.
 * All tasks go through a layer together, so that its weights are read once for all of them.
 * @param stopIds tokens that end the tail
 * @param onProgress called after every layer: layers done, and how many there may be at most
 */
export async function answers(
  model: ReferenceModel,
  readBlock: (block: TensorBlock) => Promise<Uint8Array>,
  prompts: ReadonlyMap<string, readonly number[]>,
  stopIds: readonly number[],
  onProgress: (done: number, total: number) => void = () => undefined,
): Promise<KnownAnswer['tasks']> {
  const total = (1 + MAX_GREEDY) * (model.config.layers + 1);
  let done = 0;
  const reference = new Reference(model, readBlock, () => onProgress(++done, total));
  const steps = [...prompts].map(([task, tokens]) => ({ sequence: reference.start(task), tokens }));
  const logits = [...(await reference.forward(steps))];
  let running = steps.map(({ sequence, tokens }) => {
    const top = logits.splice(0, tokens.length).map(topLogits);
    const answer: TaskAnswer = { tokens: [...tokens], top, greedy: [] };
    return { sequence, answer, next: clearBest(top.at(-1) ?? [], stopIds) };
  });
  const all = running;
  for (let length = 1; length <= MAX_GREEDY; length++) {
    running = running.filter(({ answer, next }) => {
      if (next !== null) answer.greedy.push(next);
      return next !== null;
    });
    if (running.length === 0 || length === MAX_GREEDY) break;
    const rows = await reference.forward(
      running.map(({ sequence, next }) => ({ sequence, tokens: [next ?? 0] })),
    );
    running.forEach((one, i) => {
      one.next = clearBest(topLogits(rows[i] ?? new Float64Array()), stopIds);
    });
  }
  onProgress(total, total);
  return Object.fromEntries(all.map(({ sequence, answer }) => [sequence.task, answer]));
}

/** The highest logits, highest first, of equal ones the lower id, to five decimals. */
function topLogits(logits: Float64Array): TaskAnswer['top'][number] {
  const top: TaskAnswer['top'][number] = [];
  logits.forEach((logit, id) => {
    if (top.length === TOP && logit <= (top.at(-1)?.logit ?? 0)) return;
    const place = top.findIndex((other) => other.logit < logit);
    top.splice(place === -1 ? top.length : place, 0, { id, logit });
    top.length = Math.min(top.length, TOP);
  });
  return top.map(({ id, logit }) => ({ id, logit: Number(logit.toFixed(5)) }));
}

/** The best token where it is clear enough for every backend, and does not end the answer. */
function clearBest(top: TaskAnswer['top'][number], stopIds: readonly number[]): number | null {
  const [best, second] = top;
  if (best === undefined || second === undefined) return null;
  if (best.logit - second.logit < MIN_MARGIN || stopIds.includes(best.id)) return null;
  return best.id;
}
