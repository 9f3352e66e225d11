import { describe, expect, it } from 'vitest';
import type { KnownAnswer } from '../format/manifest.ts';
import type { Backend } from './backend.ts';
import { checkKnownAnswer } from './known-answer.ts';

const VOCAB = 50;

/** Logits that depend on task, position and token, like a model's. */
function logitsAt(task: string, tokens: readonly number[]): Float32Array {
  const last = tokens.at(-1) ?? 0;
  return Float32Array.from({ length: VOCAB }, (_, id) =>
    Math.sin(1 + id * 1.7 + last * 3.1 + tokens.length * 0.9 + task.length),
  );
}

/** A backend that computes the function above, off by what each way of computing adds. */
class TinyBackend implements Backend {
  readonly name = 'wgsl';
  variant: Backend['variant'] = 'f32';
  readonly adapterName = 'tiny';
  readonly config = { vocab: VOCAB, capacity: 64 };
  readonly tasks: string[] = [];
  prefillError = 0;
  decodeError = 0;
  #task = '';
  #tokens: number[] = [];

  get position(): number {
    return this.#tokens.length;
  }

  prefill(tokens: readonly number[]): Promise<Float32Array> {
    this.#tokens.push(...tokens);
    return Promise.resolve(this.#off(logitsAt(this.#task, this.#tokens), this.prefillError));
  }

  decode(token: number): Promise<Float32Array> {
    this.#tokens.push(token);
    return Promise.resolve(this.#off(logitsAt(this.#task, this.#tokens), this.decodeError));
  }

  truncate(position: number): void {
    this.#tokens.length = position;
  }

  setTask(task: string): number {
    this.tasks.push(task);
    this.#task = task;
    this.#tokens = [];
    return 0;
  }

  setRouted(): void {
    throw new Error('not used');
  }

  forwardAll(tokens: readonly number[]): Promise<{ logits: Float32Array }> {
    const logits = new Float32Array(tokens.length * VOCAB);
    tokens.forEach((_, t) => {
      const row = logitsAt(this.#task, tokens.slice(0, t + 1));
      logits.set(this.#off(row, this.prefillError), t * VOCAB);
    });
    return Promise.resolve({ logits });
  }

  dispose(): void {
    throw new Error('not used');
  }

  #off(logits: Float32Array, error: number): Float32Array {
    return logits.map((logit, id) => logit + (id % 2 === 0 ? error : -error));
  }
}

function recorded(task: string, tokens: number[]): KnownAnswer['tasks'][string] {
  const best = (sequence: readonly number[]) =>
    [...logitsAt(task, sequence)]
      .map((logit, id) => ({ id, logit }))
      .sort((a, b) => b.logit - a.logit)
      .slice(0, 5);
  const greedy: number[] = [];
  for (let i = 0; i < 4; i++) greedy.push(best([...tokens, ...greedy])[0]?.id ?? 0);
  return { tokens, top: tokens.map((_, t) => best(tokens.slice(0, t + 1))), greedy };
}

const known: KnownAnswer = {
  tolerance: { f32: 0.02, f16: 0.15 },
  tasks: { medkqa: recorded('medkqa', [3, 14, 15, 9]), trerecom: recorded('trerecom', [8]) },
};
const wrong = { name: 'WrongNumbers' };

describe('the known-answer test', () => {
  it('passes a backend that computes what was recorded, and leaves its cache empty', async () => {
    const backend = new TinyBackend();
    const { maxLogitDifference, tolerance } = await checkKnownAnswer(backend, known);
    expect(maxLogitDifference).toBeLessThan(1e-6);
    expect(tolerance).toBe(0.02);
    expect(backend.position).toBe(0);
    expect(backend.tasks).toEqual(['medkqa', 'trerecom']);
  });

  it('reports the largest difference that it saw', async () => {
    const backend = new TinyBackend();
    backend.decodeError = 0.01;
    const { maxLogitDifference } = await checkKnownAnswer(backend, known);
    expect(maxLogitDifference).toBeCloseTo(0.01, 5);
  });

  it('fails wrong numbers of prefill and of decode alike', async () => {
    const prefill = new TinyBackend();
    prefill.prefillError = 0.05;
    await expect(checkKnownAnswer(prefill, known)).rejects.toMatchObject(wrong);
    const decode = new TinyBackend();
    decode.decodeError = 0.05;
    await expect(checkKnownAnswer(decode, known)).rejects.toMatchObject(wrong);
  });

  it('fails numbers that are none', async () => {
    const backend = new TinyBackend();
    backend.prefillError = NaN;
    await expect(checkKnownAnswer(backend, known)).rejects.toThrow(/NaN/);
  });

  it('fails a backend that takes another path in the greedy tail', async () => {
    const other = recorded('medkqa', [3, 14, 15, 9]);
    const greedy = other.greedy.map((id, i) => (i === 1 ? (id + 1) % VOCAB : id));
    const tampered = { ...known, tasks: { medkqa: { ...other, greedy } } };
    const message = /known answer of medkqa, position 5: token \d+ is ahead/;
    await expect(checkKnownAnswer(new TinyBackend(), tampered)).rejects.toThrow(message);
  });

  it('uses the tolerance of the variant', async () => {
    const backend = new TinyBackend();
    backend.prefillError = 0.05;
    backend.variant = 'f16';
    expect((await checkKnownAnswer(backend, known)).tolerance).toBe(0.15);
  });
});
