import type { KnownAnswer, Manifest, TensorBlock } from '../src/format/manifest.ts';
import { encodeChat } from '../src/text/template.ts';
import type { Tokenizer } from '../src/text/tokenizer.ts';
import { Reference, type Recorder, type ReferenceModel, type Step } from './reference.ts';

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
 * @param recorder where an interrupted computation goes on
 */
export async function answers(
  model: ReferenceModel,
  readBlock: (block: TensorBlock) => Promise<Uint8Array>,
  prompts: ReadonlyMap<string, readonly number[]>,
  stopIds: readonly number[],
  onProgress: (done: number, total: number) => void = () => undefined,
  recorder: Recorder = { step: (compute) => compute() },
): Promise<KnownAnswer['tasks']> {
  const total = (1 + MAX_GREEDY) * (model.config.layers + 1);
  let done = 0;
  const reference = new Reference(model, readBlock, () => onProgress(++done, total), recorder);
  /** The highest logits after every new token: like a layer, a step of the recorder. */
  const tops = async (steps: readonly Step[]) => {
    const hidden = await reference.hidden(steps);
    const record = await recorder.step(async () => {
      const rows = (await reference.logits(hidden, steps)).map(topLogits);
      return Float64Array.from(rows.flat().flatMap(({ id, logit }) => [id, logit]));
    });
    const entry = (at: number) => ({ id: record[at] ?? 0, logit: record[at + 1] ?? 0 });
    const width = record.length / hidden.length; // of a row: TOP, or a smaller vocabulary, twice
    return hidden.map((_, m) =>
      Array.from({ length: width / 2 }, (__, place) => entry(m * width + 2 * place)),
    );
  };
  const steps = [...prompts].map(([task, tokens]) => ({ sequence: reference.start(task), tokens }));
  const found = await tops(steps);
  let running = steps.map(({ sequence, tokens }) => {
    const top = found.splice(0, tokens.length);
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
    const rows = await tops(
      running.map(({ sequence, next }) => ({ sequence, tokens: [next ?? 0] })),
    );
    running.forEach((one, i) => {
      one.next = clearBest(rows[i] ?? [], stopIds);
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
