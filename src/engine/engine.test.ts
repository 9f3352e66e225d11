import { describe, expect, it, vi } from 'vitest';
import { encodeChat } from '../text/template.ts';
import type { Turn } from '../worker/api.ts';
import { END, greedy, setup, textOf, tokenizer } from './testing.ts';

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
    const remaining = prefill.map((event) => event.remainingMs);
    expect(prefill[0]).toEqual({ kind: 'prefill', done: 0, total, remainingMs: null });
    expect(prefill.at(-1)).toEqual({ kind: 'prefill', done: total, total, remainingMs: 0 });
    expect(remaining.slice(1).every((ms) => typeof ms === 'number' && ms >= 0)).toBe(true);
    expect(result.prefillTokensPerSecond).toBeGreaterThan(0);
    expect(result.decodeTokensPerSecond).toBeGreaterThan(0);
  });

  it('expects of a long prompt what the last one took', async () => {
    const { ask, events } = setup('好');
    await ask('宝宝发烧三天了，还有点咳嗽，晚上睡不好，要不要去医院看看');
    const before = events.length;
    await ask('孩子昨天开始拉肚子，今天已经四次了，精神还可以，怎么护理才好');
    const [first] = events.slice(before);
    expect(first).toMatchObject({ kind: 'prefill', done: 0 });
    expect(first?.kind === 'prefill' && (first.remainingMs ?? -1)).toBeGreaterThanOrEqual(0);
  });

  it('begins with the system text of the request where there is one, not with that before', async () => {
    const { ask, manifest } = setup('好');
    const said = (system: string): number =>
      encodeChat(tokenizer, manifest.template, system, [{ role: 'user', text: '问' }]).length;
    expect((await ask('问')).promptTokens).toBe(said(''));
    const { promptTokens, reusedTokens } = await ask('问', { system: '请用一句话回答。' });
    expect(promptTokens).toBe(said('请用一句话回答。'));
    expect(promptTokens).toBeGreaterThan(said(''));
    expect(reusedTokens).toBeLessThan(said(''));
  });

  it('says on request how likely every token was, before penalties', async () => {
    const { ask } = setup('好的');
    expect((await ask('问')).logprobs).toBeUndefined();
    const { logprobs, tokens } = await ask('问', { logprobs: 2 });
    expect(logprobs?.map(({ id }) => id)).toEqual(tokens);
    const alone = 10 - Math.log(Math.exp(10) + tokenizer.vocab - 1);
    for (const { logprob, top } of logprobs ?? []) {
      expect(logprob).toBeCloseTo(alone, 5);
      expect(top).toHaveLength(2);
      expect(top[0]).toMatchObject({ logprob });
      expect(top[1]?.logprob).toBeCloseTo(alone - 10, 5);
    }
    await expect(ask('问', { logprobs: 21 })).rejects.toThrow(/from 0 to 20/);
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

describe('a long conversation', () => {
  const exchange = (n: number): Turn[] => [
    { role: 'user', text: `宝宝第${n}天发烧，有点咳嗽，怎么办？` },
    { role: 'assistant', text: '多喝水，注意休息。' },
  ];
  const talk = (exchanges: number, pinned = -1): Turn[] => [
    ...Array.from({ length: exchanges }, (_, n) =>
      exchange(n).map((turn) => (n === pinned ? { ...turn, pinned: true } : turn)),
    ).flat(),
    { role: 'user', text: '现在呢？' },
  ];

  it('goes on where the oldest exchanges no longer fit, and says how many it left out', async () => {
    const { ask, backend, promptOf } = setup('好');
    const short = await ask(talk(1));
    expect(short.droppedQuestions).toBe(0);
    const long = await ask(talk(20));
    expect(long.droppedQuestions).toBeGreaterThan(10);
    expect(long.text).toBe('好');
    const left = talk(20).slice(2 * long.droppedQuestions);
    expect(long.promptTokens).toBe(promptOf(left).length);
    expect(backend.cache.slice(0, long.promptTokens)).toEqual(promptOf(left));
  });

  it('keeps what is pinned', async () => {
    const { ask, backend, promptOf } = setup('好');
    const result = await ask(talk(20, 0));
    expect(result.droppedQuestions).toBeGreaterThan(10);
    const first = promptOf(exchange(0));
    expect(backend.cache.slice(0, first.length)).toEqual(first);
  });

  it('reuses the cache while nothing more has to go', async () => {
    const { ask } = setup('多喝水，注意休息。');
    let grown = 0;
    for (let n = 3; n < 12; n++) {
      const before = await ask(talk(n));
      const turns = talk(n + 1);
      const after = await ask(turns);
      if (after.droppedQuestions === before.droppedQuestions) grown += 1;
      else continue;
      expect(after.reusedTokens).toBeGreaterThan(0);
    }
    expect(grown).toBeGreaterThan(2);
  });
});
