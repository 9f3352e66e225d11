import { readFileSync } from 'node:fs';
import { Failure } from '../failure.ts';
import { exampleManifest } from '../format/testing.ts';
import { encodeChat } from '../text/template.ts';
import { Tokenizer } from '../text/tokenizer.ts';
import type { GenerateEvent, SamplingSettings, Turn } from '../worker/api.ts';
import type { Backend, PrefillOptions, RunPlan, TokenRun } from './backend.ts';
import type { PrefixStore } from './kept-prefix.ts';
import { sample } from './sampler.ts';
import { Engine, type EngineRequest } from './engine.ts';
import type { RecoveryCause } from './recovery.ts';

/** An engine on a backend that follows a script, for tests. */

export const tokenizer = Tokenizer.fromBytes(
  readFileSync(new URL('../text/testdata/tokenizer.json', import.meta.url)),
);
const VOCAB = tokenizer.vocab;
export const END = 2;
export const greedy: SamplingSettings = {
  temperature: 0,
  topK: 0,
  topP: 1,
  repetitionPenalty: 1,
  maxTokens: 100,
};

/** Follows a script: after n tokens of answer the best logit is that of script[n]. */
export class ScriptedBackend implements Backend {
  readonly name = 'wgsl';
  readonly variant: Backend['variant'] = 'f32';
  readonly adapterName: string;
  readonly config = { vocab: VOCAB, capacity: 160 };
  /** What the engine did, in its order. */
  readonly calls: string[] = [];
  /** Tokens that the cache holds. */
  cache: number[] = [];
  script: number[];
  chunk = 4;
  onChunk: () => void = () => undefined;
  onDecode: (step: number) => void = () => undefined;
  failNext: Error | null = null;
  broken = 0;
  #prompt = 0;
  #steps = 0;

  constructor(script: number[], adapterName = 'script') {
    this.script = script;
    this.adapterName = adapterName;
  }

  get position(): number {
    return this.cache.length;
  }

  async prefill(tokens: readonly number[], options: PrefillOptions = {}): Promise<Float32Array> {
    this.calls.push(`prefill ${tokens.length} at ${this.position}`);
    for (let done = 0; done < tokens.length;) {
      if (options.signal?.aborted === true) throw new Failure('Cancelled', 'prefill');
      this.cache.push(...tokens.slice(done, done + this.chunk));
      done = Math.min(tokens.length, done + this.chunk);
      options.onProgress?.(done, tokens.length);
      this.onChunk();
      await turn();
    }
    this.#prompt = this.cache.length;
    this.#steps = 0;
    return this.logits();
  }

  async decode(token: number): Promise<Float32Array> {
    this.#steps += 1;
    this.calls.push(`decode ${token}`);
    this.onDecode(this.#steps);
    await turn();
    if (this.failNext !== null) throw this.failNext;
    this.cache.push(token);
    return this.logits();
  }

  truncate(position: number): void {
    this.cache.length = position;
  }

  setTask(task: string): number {
    this.calls.push(`task ${task}`);
    this.cache = [];
    return 1.5;
  }

  setRouted(on: boolean): void {
    this.calls.push(`routed ${on}`);
  }

  forwardAll(): Promise<never> {
    return Promise.reject(new Error('not scripted'));
  }

  dispose(): void {
    this.calls.push('dispose');
  }

  protected logits(): Float32Array {
    const logits = new Float32Array(VOCAB);
    logits[this.script[this.cache.length - this.#prompt] ?? END] = 10;
    if (this.broken > 0 && this.cache.length - this.#prompt >= this.broken) logits[7] = NaN;
    return logits;
  }
}

/** Chooses by itself and runs ahead of what was asked, as a GPU does. */
export class AheadBackend extends ScriptedBackend {
  /** Steps that are under way at most. */
  depth = 3;
  /** Runs that have started and not ended. */
  running = 0;

  run({ sampling, seed, answer, most }: RunPlan): TokenRun {
    this.calls.push(`run of ${most} after ${answer.length}`);
    this.running += 1;
    const said = [...answer];
    const underWay: number[] = [];
    let queued = 0;
    let asked = 0;
    let ended = false;
    const submit = (): void => {
      const last = said.at(-1);
      if (queued > 0 && last !== undefined) this.cache.push(last);
      const token = sample(this.logits(), sampling, said, seed, this.position);
      said.push(token);
      underWay.push(token);
      queued += 1;
    };
    const end = async (): Promise<number> => {
      if (ended) return 0;
      ended = true;
      await turn();
      this.running -= 1;
      return underWay.length;
    };
    const next = async (): Promise<number> => {
      while (underWay.length < this.depth && queued < most) submit();
      if (asked > 0) this.onDecode(asked);
      asked += 1;
      await turn();
      if (this.failNext !== null) {
        await end();
        throw this.failNext;
      }
      const token = underWay.shift();
      if (token === undefined) throw new RangeError(`more than ${most} tokens asked for`);
      return token;
    };
    return { next, end };
  }
}

/** A turn of the event loop, as every real readback takes one. */
export const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

/** Where a test lets the first backend fail: what may help, and what comes in its place. */
export interface SecondTry {
  readonly helps: (error: unknown) => RecoveryCause | null;
  readonly another?: ScriptedBackend;
  /** What comes in the place of that one, and so on. */
  readonly further?: readonly ScriptedBackend[];
}

export function setup(
  answer: string | number[],
  mode: 'merged' | 'routed' = 'merged',
  second: SecondTry = { helps: () => null },
) {
  return setupOn(new ScriptedBackend(scriptOf(answer)), mode, second);
}

/** The tokens of an answer and its end. */
export const scriptOf = (answer: string | number[]): number[] =>
  typeof answer === 'string' ? [...tokenizer.encode(answer), END] : answer;

/** As `setup`, on a backend of the test's own. */
export function setupOn<T extends ScriptedBackend>(
  backend: T,
  mode: 'merged' | 'routed' = 'merged',
  second: SecondTry = { helps: () => null },
) {
  const example = exampleManifest(mode);
  const manifest = { ...example, config: { ...example.config, ...backend.config } };
  const causes: RecoveryCause[] = [];
  const left = [second.another, ...(second.further ?? [])];
  const maker = {
    helps: second.helps,
    another: (cause: RecoveryCause) => {
      causes.push(cause);
      const backend = left.length > 1 ? left.shift() : left[0];
      if (!backend) return Promise.reject(new Failure('NoWebGpu', 'no second one'));
      return Promise.resolve({ backend, selfTest: null });
    },
  };
  const first = { backend, selfTest: null };
  const engine = new Engine({ first, maker, manifest, manifestBytes: 0, tokenizer });
  const events: GenerateEvent[] = [];
  const ask = (
    turns: readonly Turn[] | string,
    more: Partial<EngineRequest> = {},
    signal?: AbortSignal,
  ) =>
    engine.generate(
      {
        task: 'medkqa',
        turns: typeof turns === 'string' ? [{ role: 'user', text: turns }] : turns,
        sampling: greedy,
        seed: 1,
        ...more,
      },
      (event) => events.push(event),
      signal,
    );
  const promptOf = (turns: readonly Turn[]): number[] =>
    encodeChat(tokenizer, manifest.template, '', turns);
  return { backend, engine, manifest, events, ask, promptOf, causes };
}

export const textOf = (events: readonly GenerateEvent[]): string =>
  events.map((event) => (event.kind === 'piece' ? event.text : '')).join('');

/** A browser's storage that outlives engines, and what they did with it. */
export class KeptInMemory implements PrefixStore {
  readonly records: Map<string, Uint8Array<ArrayBuffer>>;
  readonly reads: string[] = [];
  readonly removed: string[] = [];

  constructor(records: readonly [string, Uint8Array<ArrayBuffer>][] = []) {
    this.records = new Map(records);
  }

  read(name: string): Promise<Uint8Array<ArrayBuffer> | null> {
    this.reads.push(name);
    return Promise.resolve(this.records.get(name)?.slice() ?? null);
  }

  write(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    this.records.set(name, bytes.slice());
    return Promise.resolve();
  }

  remove(name: string): Promise<void> {
    this.removed.push(name);
    this.records.delete(name);
    return Promise.resolve();
  }
}
