import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as v from 'valibot';
import { asParagraphs, type Task } from './app.ts';

/** What PyTorch answers: the golden files beside the fixtures. */

const ids = v.array(v.number());
const golden = v.object({
  tasks: v.record(
    v.string(),
    v.object({ prompt: v.string(), greedy_tokens: ids, greedy_text: v.string() }),
  ),
});

export interface Golden {
  readonly prompt: string;
  readonly tokens: readonly number[];
  readonly text: string;
}

/** The golden answer of a model in e2e/fixtures/golden to its prompt in one task. */
export function goldenOf(model: string, task: Task): Golden {
  const json: unknown = JSON.parse(read(`./fixtures/golden/${model}.json`));
  const found = v.parse(golden, json).tasks[task];
  if (found === undefined) throw new Error(`${model}.json has no task ${task}`);
  // The last of the tokens may be the first half of a character: the page shows no half ones.
  const text = asParagraphs(found.greedy_text.replace(/\uFFFD+$/, ''));
  return { prompt: found.prompt, tokens: found.greedy_tokens, text };
}

/** The text of a few token ids, from the package's own tokenizer.json; half characters left out. */
export function textOf(tokenizer: string, tokens: readonly number[]): string {
  const file = v.object({ model: v.object({ vocab: v.record(v.string(), v.number()) }) });
  const { vocab } = v.parse(file, JSON.parse(read(tokenizer)) as unknown).model;
  const pieces = new Map(Object.entries(vocab).map(([piece, id]) => [id, piece]));
  const bytes = tokens.flatMap((id) => {
    const piece = pieces.get(id) ?? '';
    const byte = /^<0x([0-9A-F]{2})>$/.exec(piece)?.[1];
    return byte === undefined
      ? [...new TextEncoder().encode(piece.replaceAll('▁', ' '))]
      : [Number.parseInt(byte, 16)];
  });
  return asParagraphs(new TextDecoder().decode(new Uint8Array(bytes), { stream: true }));
}

function read(path: string): string {
  return readFileSync(fileURLToPath(new URL(path, import.meta.url)), 'utf8');
}
