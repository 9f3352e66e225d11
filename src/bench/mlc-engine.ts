import type { AdapterFacts } from './mlc-library.ts';

/** What goes between the page that web-llm runs on and the runner. */

export interface WebLlmOptions {
  /** Of the model's folder, without `resolve/main/`. */
  readonly model: string;
  readonly library: string;
  /** Of its weights. */
  readonly manifest: string;
  readonly vocab: number;
}

/** What web-llm itself says of an answer (its `usage.extra`). */
export interface WebLlmUsage {
  readonly msPerPromptToken: number;
  readonly msPerToken: number;
}

export interface WebLlmPage {
  /** The GPU that web-llm would take, before anything is loaded. */
  adapter(): Promise<AdapterFacts>;
  /**
   * Loads what comes before the weights, of a folder that has none yet: library and tokenizer.
   * @throws what web-llm does
   */
  check(options: WebLlmOptions): Promise<void>;
  /** Loads the model. @returns what it runs on */
  load(options: WebLlmOptions): Promise<string>;
  /** Milliseconds of a pass over tokens into an empty cache, and of choosing one after them. */
  prefill(tokens: readonly number[]): Promise<number>;
  /** Milliseconds of a step for every one of `tokens`, after all of `context`. */
  decode(context: readonly number[], tokens: readonly number[]): Promise<readonly number[]>;
  /**
   * Has web-llm write so many tokens by itself, temperature 1, ends ignored.
   * @param check also that every probability is finite, which costs time
   * @throws Error where it wrote fewer or more, or numbers are not finite
   */
  answer(tokens: number, seed: number, check: boolean): Promise<WebLlmUsage>;
}

declare global {
  var webLlm: WebLlmPage | undefined;
}
