import type { Page } from '@playwright/test';
import { benchTokens } from './engine.ts';
import type { WebLlmPage } from './mlc-engine.ts';
import { addressesIn } from './mlc-folder.ts';
import type { MlcOptions } from './mlc-run.ts';
import type { Shape } from './random-model.ts';

/** Both engines on their pages, and what they do by turns. */

/** Steps of every turn. */
export const STEPS = 4;
/** What web-llm writes by itself in every turn. */
export const ANSWER = 16;

export interface Tabs {
  readonly url: string;
  readonly ours: Page;
  readonly peer: Page;
}

export class MlcTurns {
  readonly #tabs: Tabs;
  readonly #options: MlcOptions;
  readonly #shape: Shape;
  readonly #samples: Record<string, number[]> = {};

  constructor(tabs: Tabs, options: MlcOptions, shape: Shape) {
    this.#tabs = tabs;
    this.#options = options;
    this.#shape = shape;
  }

  /**
   * Loads both, and has web-llm show that it computes.
   * @param name of the peer
   * @throws Error with what web-llm said
   */
  async load(name: string, library: string): Promise<Record<string, string>> {
    const { log, seed, contexts, promptTokens } = this.#options;
    const { url, ours, peer } = this.#tabs;
    const load = {
      engine: 'ours',
      threads: 1,
      hideSubgroups: false,
      longestPass: Infinity,
    } as const;
    const about = {
      ours: there(await ours.evaluate((one) => bench?.load(one), load)),
      'web-llm': '',
    };
    log(`ours: ${about.ours}`);
    const model = { ...addressesIn(`${url}mlc/`), vocab: this.#shape.vocab };
    const loading = peer.evaluate((one) => webLlm?.load(one), model);
    about['web-llm'] = there(await saying(name, library, loading));
    log(`web-llm: ${about['web-llm']}`);
    await this.#answer(seed, true);
    const [short = promptTokens] = contexts;
    for (const context of contexts) {
      await ours.evaluate(([few, many]) => bench?.prepare(few, many), [short, context] as const);
    }
    return about;
  }

  /** By turns: whatever else the machine does meets both. */
  async measure(): Promise<Readonly<Record<string, readonly number[]>>> {
    const { contexts, promptTokens, repetitions, minutes, seed, log } = this.#options;
    const { ours, peer } = this.#tabs;
    const { vocab } = this.#shape;
    const prompt = benchTokens(promptTokens, vocab);
    const steps = benchTokens(STEPS, vocab, 5);
    // What is compiled late is compiled; web-llm has decoded in its answer.
    await ours.evaluate((tokens) => bench?.prefill(tokens), prompt);
    await ours.evaluate((at) => bench?.decode(at, [1]), promptTokens);
    await peer.evaluate((tokens) => webLlm?.prefill(tokens), prompt);
    const start = performance.now();
    let lastMs = 0;
    for (let turn = 1; turn <= repetitions; turn++) {
      const begin = performance.now();
      if (turn > 1 && begin + lastMs > start + minutes * 60_000) break;
      log(`repetition ${turn} of at most ${repetitions}`);
      const passed = await ours.evaluate((tokens) => bench?.prefill(tokens), prompt);
      this.#add('ours prefill', there(passed).ms);
      const ms = await peer.evaluate((tokens) => webLlm?.prefill(tokens), prompt);
      this.#add('web-llm prefill', [there(ms)]);
      for (const context of contexts) {
        const step = [context, steps] as const;
        const own = await ours.evaluate(([at, list]) => bench?.decode(at, list), step);
        this.#add(`ours decode ${context}`, there(own).ms);
        const before = [benchTokens(context, vocab), steps] as const;
        const other = await peer.evaluate(([all, list]) => webLlm?.decode(all, list), before);
        this.#add(`web-llm decode ${context}`, there(other));
      }
      const { msPerPromptToken, msPerToken } = await this.#answer(seed + turn, false);
      this.#add('web-llm usage.extra, prompt token', [msPerPromptToken]);
      this.#add(`web-llm usage.extra, one of ${ANSWER} tokens`, [msPerToken]);
      lastMs = performance.now() - begin;
    }
    return this.#samples;
  }

  async #answer(seed: number, check: boolean): ReturnType<WebLlmPage['answer']> {
    const asked = [ANSWER, seed, check] as const;
    return there(
      await this.#tabs.peer.evaluate(
        ([tokens, one, all]) => webLlm?.answer(tokens, one, all),
        asked,
      ),
    );
  }

  #add(name: string, ms: readonly number[]): void {
    this.#samples[name] = [...(this.#samples[name] ?? []), ...ms];
  }
}

/** Says which web-llm failed with which library, and the first line of why. */
export async function saying<T>(peer: string, library: string, loading: Promise<T>): Promise<T> {
  try {
    return await loading;
  } catch (cause) {
    const [line = ''] = (cause instanceof Error ? cause.message : String(cause)).split('\n');
    const why = line.replace('page.evaluate: ', '');
    throw new Error(
      `${peer} cannot load ${library}: ${why}. Was it compiled by an MLC-LLM of that time?`,
      { cause },
    );
  }
}

export function there<T>(result: T | undefined): T {
  if (result === undefined) throw new Error('the page lost its benchmark');
  return result;
}
