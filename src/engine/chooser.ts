import type { Backend, RunPlan, TokenRun } from './backend.ts';
import type { Constraint } from './constraint/constraint.ts';
import { sample } from './sampler.ts';

/** A token and, where the CPU chose it, the logits [V] it was chosen by: valid until the next. */
export interface Chosen {
  readonly token: number;
  readonly logits: Float32Array | null;
}

/** Gives an answer's tokens one by one, each computed after the ones that were taken before. */
export interface Chooser {
  /** @throws Failure WrongNumbers, DeviceLost; nothing is left to end then */
  next(): Promise<Chosen>;
  /** Waits for what is under way. */
  end(): Promise<void>;
}

/** What both kinds need. */
export interface ChooserParts extends Pick<RunPlan, 'sampling' | 'seed'> {
  readonly backend: Backend;
  /** Tokens of the prompt. */
  readonly prompt: readonly number[];
  /** Tokens of the answer, as they are taken: the owner adds each before it asks for the next. */
  readonly tokens: readonly number[];
  /** Most tokens of the answer. */
  readonly most: number;
  readonly constraint: Constraint | null;
  /** Called when a decode step has ended; `kept` is the token whose keys and values it made. */
  readonly onStep: (kept: number | null) => void;
}

/** Reads logits back and samples them on the CPU: what a format or log-probabilities need. */
export class CpuChooser implements Chooser {
  readonly #parts: ChooserParts;
  #logits: Float32Array;
  #first = true;

  constructor(parts: ChooserParts, logits: Float32Array) {
    this.#parts = parts;
    this.#logits = logits;
  }

  async next(): Promise<Chosen> {
    const { backend, prompt, tokens, constraint, sampling, seed, onStep } = this.#parts;
    const last = tokens.at(-1);
    if (!this.#first && last !== undefined) {
      this.#logits = await backend.decode(last);
      onStep(last);
    }
    this.#first = false;
    const allowed = await constraint?.allowed();
    const position = prompt.length + tokens.length;
    const token = sample(this.#logits, sampling, tokens, seed, position, allowed);
    return { token, logits: this.#logits };
  }

  end(): Promise<void> {
    return Promise.resolve();
  }
}

/** Leaves the choice to the backend, which is some steps ahead. */
export class RunChooser implements Chooser {
  readonly #parts: ChooserParts;
  readonly #run: TokenRun;
  #first = true;

  constructor(parts: ChooserParts, run: TokenRun) {
    this.#parts = parts;
    this.#run = run;
  }

  async next(): Promise<Chosen> {
    const token = await this.#run.next();
    if (!this.#first) this.#parts.onStep(this.#parts.tokens.at(-1) ?? null);
    this.#first = false;
    return { token, logits: null };
  }

  /** Surplus steps are counted, but what they wrote into the cache is not kept. */
  async end(): Promise<void> {
    const surplus = await this.#run.end();
    for (let i = 0; i < surplus; i++) this.#parts.onStep(null);
  }
}
