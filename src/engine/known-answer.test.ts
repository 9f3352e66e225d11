import { describe, expect, it } from 'vitest';
import type { KnownAnswer } from '../format/manifest.ts';
import type { Backend, RunPlan, TokenRun } from './backend.ts';
import { checkKnownAnswer } from './known-answer.ts';
import { sample } from './sampler.ts';

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
  readonly config = { vocab: VOCAB, capacity: 160 };
  readonly tasks: string[] = [];
  prefillError = 0;
  decodeError = 0;
  /** Added to what decode makes of more than 64 tokens. */
  longError = 0;
  longPaths = false;
  /** What the backend chooses where the CPU chooses this. */
  chosen = (token: number): number => token;
  #task = '';
  #tokens: number[] = [];
  #last = new Float32Array(VOCAB);

  get position(): number {
    return this.#tokens.length;
  }

  prefill(tokens: readonly number[]): Promise<Float32Array> {
    this.#tokens.push(...tokens);
    return Promise.resolve(this.#off(logitsAt(this.#task, this.#tokens), this.prefillError));
  }

  decode(token: number): Promise<Float32Array> {
    this.#tokens.push(token);
    const error = this.decodeError + (this.#tokens.length > 64 ? this.longError : 0);
    return Promise.resolve(this.#off(logitsAt(this.#task, this.#tokens), error));
  }

  run({ sampling, seed }: RunPlan): TokenRun {
    const token = sample(this.#last, sampling, [], seed, this.position);
    const next = () => Promise.resolve(this.chosen(token));
    return { next, end: () => Promise.resolve(0) };
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
    this.#last = logits.map((logit, id) => logit + (id % 2 === 0 ? error : -error));
    return this.#last;
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

  it('fails a backend that chooses other tokens than its logits say', async () => {
    const backend = new TinyBackend();
    backend.chosen = (token) => (token + 1) % VOCAB;
    await expect(checkKnownAnswer(backend, known)).rejects.toThrow(/the likeliest token: the GPU/);
  });

  it('lets one of three drawn tokens differ, not two', async () => {
    const others = async (count: number): Promise<unknown> => {
      const backend = new TinyBackend();
      let asked = 0; // the likeliest comes first
      backend.chosen = (token) => (asked++ > 3 - count ? (token + 1) % VOCAB : token);
      return checkKnownAnswer(backend, known);
    };
    await expect(others(1)).resolves.toBeDefined();
    await expect(others(2)).rejects.toThrow(
      /drawing a token: .*; the GPU chose token \d+, the CPU/,
    );
  });

  it('fails long contexts that come out otherwise in pieces, where they have paths of their own', async () => {
    const backend = new TinyBackend();
    backend.longError = 0.2;
    await expect(checkKnownAnswer(backend, known)).resolves.toBeDefined();
    backend.longPaths = true;
    await expect(checkKnownAnswer(backend, known)).rejects.toThrow(
      /140 tokens of context: token 0/,
    );
    backend.longError = 0;
    await expect(checkKnownAnswer(backend, known)).resolves.toBeDefined();
  });

  it('uses the tolerance of the variant', async () => {
    const backend = new TinyBackend();
    backend.prefillError = 0.05;
    backend.variant = 'f16';
    expect((await checkKnownAnswer(backend, known)).tolerance).toBe(0.15);
  });
});
