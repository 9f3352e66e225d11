import { describe, expect, it } from 'vitest';
import type { GenerateEvent } from '../worker/api.ts';
import { greedy, setup, textOf, tokenizer } from './testing.ts';

describe('stop', () => {
  it('ends the answer with the decode step that is under way', async () => {
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
