import { readFileSync } from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { Failure } from '../failure.ts';
import { exampleManifest } from '../format/testing.ts';
import { encodeChat } from '../text/template.ts';
import { Tokenizer } from '../text/tokenizer.ts';
import type { GenerateEvent, SamplingSettings, Turn } from '../worker/api.ts';
import type { Backend, PrefillOptions } from './backend.ts';
import { Engine, type EngineRequest } from './engine.ts';
import { describe as describePackage } from './info.ts';

const tokenizer = Tokenizer.fromBytes(
  readFileSync(new URL('../text/testdata/tokenizer.json', import.meta.url)),
);
const VOCAB = tokenizer.vocab;
const END = 2;
const greedy: SamplingSettings = {
  temperature: 0,
  topK: 0,
  topP: 1,
  repetitionPenalty: 1,
  maxTokens: 100,
};

/** Follows a script: after n tokens of answer the best logit is that of script[n]. */
class ScriptedBackend implements Backend {
  readonly name = 'wgsl';
  readonly variant = 'f32';
  readonly adapterName = 'script';
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

  constructor(script: number[]) {
    this.script = script;
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
    return this.#logits();
  }

  async decode(token: number): Promise<Float32Array> {
    this.#steps += 1;
    this.calls.push(`decode ${token}`);
    this.onDecode(this.#steps);
    await turn();
    if (this.failNext !== null) throw this.failNext;
    this.cache.push(token);
    return this.#logits();
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

  #logits(): Float32Array {
    const logits = new Float32Array(VOCAB);
    logits[this.script[this.cache.length - this.#prompt] ?? END] = 10;
    if (this.broken > 0 && this.cache.length - this.#prompt >= this.broken) logits[7] = NaN;
    return logits;
  }
}

/** A turn of the event loop, as every real readback takes one. */
const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

function setup(answer: string | number[], mode: 'merged' | 'routed' = 'merged') {
  const script = typeof answer === 'string' ? [...tokenizer.encode(answer), END] : answer;
  const backend = new ScriptedBackend(script);
  const example = exampleManifest(mode);
  const manifest = { ...example, config: { ...example.config, ...backend.config } };
  const info = describePackage(manifest, 0, backend, null);
  const engine = new Engine({ backend, manifest, tokenizer, info });
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
  return { backend, engine, manifest, events, ask, promptOf };
}

const textOf = (events: readonly GenerateEvent[]): string =>
  events.map((event) => (event.kind === 'piece' ? event.text : '')).join('');

describe('an answer', () => {
  it('is what the model says until the end token, which is not part of it', async () => {
    const { ask, events, backend } = setup('多喝水，注意休息。');
    const result = await ask('宝宝发烧怎么办');
    expect(result.text).toBe('多喝水，注意休息。');
    expect(textOf(events)).toBe(result.text);
    expect(result.tokens).toEqual(tokenizer.encode('多喝水，注意休息。'));
    expect(result.outputTokens).toBe(result.tokens.length);
    expect(result.finish).toBe('stop');
    expect(backend.calls.filter((call) => call.startsWith('decode'))).toHaveLength(
      result.outputTokens,
    );
  });

  it('reports prefill in tokens, from none to all', async () => {
    const { ask, events, promptOf } = setup('好');
    const result = await ask('宝宝发烧怎么办');
    const prefill = events.filter((event) => event.kind === 'prefill');
    const total = promptOf([{ role: 'user', text: '宝宝发烧怎么办' }]).length;
    expect(result.promptTokens).toBe(total);
    expect(prefill[0]).toEqual({ kind: 'prefill', done: 0, total });
    expect(prefill.at(-1)).toEqual({ kind: 'prefill', done: total, total });
    expect(result.prefillTokensPerSecond).toBeGreaterThan(0);
    expect(result.decodeTokensPerSecond).toBeGreaterThan(0);
  });

  it('ends at maxTokens without computing the last token', async () => {
    const { ask, backend } = setup('多喝水，注意休息。');
    const result = await ask('问', { sampling: { ...greedy, maxTokens: 3 } });
    expect(result.finish).toBe('length');
    expect(result.outputTokens).toBe(3);
    expect(backend.calls.filter((call) => call.startsWith('decode'))).toHaveLength(2);
    expect(backend.position).toBe(result.promptTokens + 2);
  });

  it('ends at the capacity where maxTokens is beyond it', async () => {
    const { ask, backend } = setup(Array.from({ length: 500 }, () => 300));
    const result = await ask('问', { sampling: { ...greedy, maxTokens: 1000 } });
    expect(result.finish).toBe('length');
    expect(result.outputTokens).toBe(backend.config.capacity - result.promptTokens);
    expect(backend.position).toBeLessThanOrEqual(backend.config.capacity);
  });

  it('may be empty', async () => {
    const { ask, events } = setup([END]);
    const result = await ask('问');
    expect(result).toMatchObject({ text: '', tokens: [], finish: 'stop', outputTokens: 0 });
    expect(result.decodeTokensPerSecond).toBe(0);
    expect(events.some((event) => event.kind === 'piece')).toBe(false);
  });

  it('shows a character of several byte pieces once it is whole, and no half one', async () => {
    const bytes = [...new TextEncoder().encode('龘')].map((byte) => 3 + byte);
    const half = bytes.slice(0, 2);
    const { ask, events } = setup([...bytes, ...half, END]);
    const result = await ask('问');
    expect(result.text).toBe('龘');
    expect(result.tokens).toHaveLength(5);
    expect(events.filter((event) => event.kind === 'piece')).toEqual([
      { kind: 'piece', text: '龘', outputTokens: 3 },
    ]);
  });

  it('samples the same way for the same seed and position', async () => {
    const sampling = { ...greedy, temperature: 5, maxTokens: 12 };
    const { ask } = setup(Array.from({ length: 12 }, () => 400));
    const first = await ask('问', { sampling });
    const again = await ask('问', { sampling });
    const other = await ask('问', { sampling, seed: 2 });
    expect(again.tokens).toEqual(first.tokens);
    expect(other.tokens).not.toEqual(first.tokens);
    expect(new Set(first.tokens).size).toBeGreaterThan(4); // every position draws anew
  });
});

describe('the KV cache', () => {
  const question = { role: 'user', text: '宝宝发烧怎么办' } as const;

  it('is reused for the part of a conversation that it holds', async () => {
    const { ask, promptOf, backend } = setup('多喝水。');
    const first = await ask([question]);
    const turns: Turn[] = [question, { role: 'assistant', text: first.text }];
    turns.push({ role: 'user', text: '还有呢' });
    const second = await ask(turns);
    const prompt = promptOf(turns);
    // Question and answer are there; the end token was never computed.
    expect(first.reusedTokens).toBe(0);
    expect(second.reusedTokens).toBe(first.promptTokens + first.outputTokens);
    expect(second.promptTokens).toBe(prompt.length);
    const fresh = prompt.length - second.reusedTokens;
    expect(backend.calls).toContain(`prefill ${fresh} at ${second.reusedTokens}`);
    expect(backend.cache.slice(0, prompt.length)).toEqual(prompt);
  });

  it('computes one token again when a question is asked again', async () => {
    const { ask, backend } = setup('多喝水。');
    const first = await ask([question]);
    const again = await ask([question]);
    expect(again.reusedTokens).toBe(first.promptTokens - 1);
    expect(again.text).toBe(first.text);
    expect(backend.calls).toContain(`prefill 1 at ${first.promptTokens - 1}`);
  });

  it('is cut where a conversation turns another way', async () => {
    const { ask, promptOf, backend } = setup('多喝水。');
    await ask([question]);
    const other = [{ role: 'user', text: '宝宝咳嗽' }] as const;
    const result = await ask(other);
    expect(result.reusedTokens).toBeGreaterThan(0); // the template's first words
    expect(result.reusedTokens).toBeLessThan(result.promptTokens - 1);
    expect(backend.cache.slice(0, result.promptTokens)).toEqual(promptOf(other));
  });

  it('is worth nothing after a change of task', async () => {
    const { ask, backend } = setup('多喝水。');
    const first = await ask([question]);
    const other = await ask([question], { task: 'evidiag' });
    const same = await ask([question], { task: 'evidiag' });
    expect(first.taskSwitchMs).toBe(1.5);
    expect(other).toMatchObject({ reusedTokens: 0, taskSwitchMs: 1.5 });
    expect(same.taskSwitchMs).toBe(0);
    expect(backend.calls.filter((call) => call.startsWith('task'))).toEqual([
      'task medkqa',
      'task evidiag',
    ]);
  });

  it('is worth nothing after a failed pass', async () => {
    const { ask, backend } = setup('多喝水。');
    await ask([question]);
    backend.failNext = new Error('a bug');
    await expect(ask([question])).rejects.toThrow('a bug');
    backend.failNext = null;
    const result = await ask([question]);
    expect(result.reusedTokens).toBe(0);
    expect(result.text).toBe('多喝水。');
  });
});

describe('the rates', () => {
  it('are of the tokens that were computed, in the time of each phase', async () => {
    let clockMs = 1000;
    const now = vi.spyOn(performance, 'now').mockImplementation(() => clockMs);
    try {
      const { ask, backend } = setup('多喝水，注意休息。');
      backend.chunk = 1;
      backend.onChunk = () => (clockMs += 10);
      backend.onDecode = () => (clockMs += 50);
      const first = await ask('宝宝发烧怎么办');
      const again = await ask('宝宝发烧怎么办');
      expect(again.reusedTokens).toBeGreaterThan(5);
      for (const result of [first, again]) {
        expect(result.prefillTokensPerSecond).toBeCloseTo(100);
        expect(result.decodeTokensPerSecond).toBeCloseTo(20);
      }
    } finally {
      now.mockRestore();
    }
  });
});

describe('stop', () => {
  it('ends the answer after at most one more decode step', async () => {
    const { ask, engine, backend, promptOf } = setup('多喝水，注意休息，观察体温变化。');
    const controller = new AbortController();
    backend.onDecode = (step) => {
      if (step !== 3) return;
      engine.noteStop();
      controller.abort();
    };
    const result = await ask('问', {}, controller.signal);
    expect(result.finish).toBe('cancelled');
    expect(result.outputTokens).toBe(3);
    expect(result.text).toBe(tokenizer.decode(result.tokens));
    expect(engine.counts).toEqual({ decodeSteps: 3, decodeStepsAfterStop: 1 });
    const prompt = promptOf([{ role: 'user', text: '问' }]);
    expect(backend.cache).toEqual([...prompt, ...result.tokens]);
  });

  it('says nothing more where it comes with a piece of the answer', async () => {
    const { engine, events, manifest } = setup('多喝水，注意休息。');
    const controller = new AbortController();
    const onEvent = (event: GenerateEvent): void => {
      events.push(event);
      if (event.kind === 'piece') controller.abort();
    };
    const turns = [{ role: 'user', text: '问' }] as const;
    const task = manifest.tasks[0]?.id ?? '';
    const request = { task, turns, sampling: greedy, seed: 1 };
    const result = await engine.generate(request, onEvent, controller.signal);
    expect(result.finish).toBe('cancelled');
    expect(result.outputTokens).toBe(1);
    expect(textOf(events)).toBe(result.text);
    expect(engine.counts.decodeSteps).toBeLessThanOrEqual(1);
  });

  it('counts anew for every stop and not outside an answer', async () => {
    const { engine, ask, backend } = setup('多喝水，注意休息。');
    const controller = new AbortController();
    backend.onDecode = (step) => {
      if (step === 2) engine.noteStop();
      if (step === 4) controller.abort();
    };
    await ask('问', {}, controller.signal);
    expect(engine.counts.decodeStepsAfterStop).toBe(3);
    engine.noteStop();
    backend.onDecode = () => undefined;
    await ask('问');
    expect(engine.counts.decodeStepsAfterStop).toBe(0);
  });

  it('ends a prefill between chunks, and what was computed is reused', async () => {
    const { ask, backend, promptOf, events } = setup('多喝水。');
    const controller = new AbortController();
    let chunks = 0;
    backend.onChunk = () => {
      if (++chunks === 2) controller.abort();
    };
    const question = '宝宝发烧三天了，咳嗽，流鼻涕，应该怎么办，要不要去医院';
    const result = await ask(question, {}, controller.signal);
    expect(result).toMatchObject({ finish: 'cancelled', text: '', tokens: [], outputTokens: 0 });
    expect(events.some((event) => event.kind === 'piece')).toBe(false);
    expect(backend.cache).toEqual(promptOf([{ role: 'user', text: question }]).slice(0, 8));
    backend.onChunk = () => undefined;
    const next = await ask(question);
    expect(next.reusedTokens).toBe(8);
    expect(next.text).toBe('多喝水。');
  });

  it('before the first chunk computes nothing', async () => {
    const { ask, backend } = setup('多喝水。');
    const result = await ask('问', {}, AbortSignal.abort());
    expect(result).toMatchObject({ finish: 'cancelled', prefillTokensPerSecond: 0 });
    expect(backend.position).toBe(0);
  });
});

describe('what is refused', () => {
  it('a second answer while one runs', async () => {
    const { ask } = setup('多喝水。');
    const first = ask('问');
    await expect(ask('再问')).rejects.toMatchObject({ name: 'Busy' });
    expect((await first).text).toBe('多喝水。');
    expect((await ask('再问')).text).toBe('多喝水。');
  });

  it('a conversation that leaves less than 32 tokens for the answer', async () => {
    const { ask, backend, promptOf } = setup('好');
    let text = '';
    while (promptOf([{ role: 'user', text: `${text}1` }]).length <= backend.config.capacity - 32) {
      text += '1';
    }
    expect((await ask(text)).text).toBe('好');
    await expect(ask(`${text}1`)).rejects.toMatchObject({ name: 'PromptTooLong' });
  });

  it.each(['', ' \n '])('the empty question %j', async (text) => {
    await expect(setup('好').ask(text)).rejects.toMatchObject({ name: 'EmptyPrompt' });
  });

  it('a conversation without turns, or that ends with an answer', async () => {
    const { ask } = setup('好');
    await expect(ask([])).rejects.toMatchObject({ name: 'EmptyPrompt' });
    await expect(ask([{ role: 'assistant', text: '好' }])).rejects.toMatchObject({
      name: 'EmptyPrompt',
    });
  });

  it('a task that the package lacks, and names those it has', async () => {
    const { ask } = setup('好');
    await expect(ask('问', { task: 'surgery' })).rejects.toThrow(/only medkqa, evidiag/);
    await expect(ask('问', { task: 'surgery' })).rejects.toMatchObject({ name: 'UnknownTask' });
  });

  it('routed mode of a merged package', async () => {
    const { ask, backend } = setup('好');
    await expect(ask('问', { routed: true })).rejects.toMatchObject({ name: 'NotRouted' });
    expect(backend.calls).toEqual([]);
    expect((await ask('问', { routed: false })).text).toBe('好');
  });

  it('numbers that are no numbers', async () => {
    const { ask, backend } = setup('多喝水。');
    backend.broken = 2;
    await expect(ask('问')).rejects.toMatchObject({ name: 'WrongNumbers' });
    backend.broken = 0;
    expect((await ask('问')).reusedTokens).toBe(0);
  });
});

describe('a routed package', () => {
  it('is routed unless the request says otherwise, and a change empties the cache', async () => {
    const { ask, backend } = setup('好', 'routed');
    await ask('问');
    await ask('问', { routed: true });
    const merged = await ask('问', { routed: false });
    expect(merged.reusedTokens).toBe(0);
    expect(backend.calls.filter((call) => !/prefill|decode/.test(call))).toEqual([
      'routed true',
      'task medkqa',
      'routed false',
      'task medkqa',
    ]);
  });
});
