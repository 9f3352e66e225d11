import { describe, expect, it } from 'vitest';
import { Failure } from '../failure.ts';
import { AheadBackend, greedy, scriptOf, setup, setupOn, textOf, tokenizer } from './testing.ts';

const words = '多喝水，注意休息，观察体温变化。';
const question = [{ role: 'user', text: '问' }] as const;
const ahead = () => setupOn(new AheadBackend(scriptOf(words)));

/** A backend that chooses tokens itself has steps under way that nobody asks the tokens of. */
describe('an answer whose tokens the backend chooses', () => {
  it('is the one that the CPU chooses, and the cache keeps no surplus', async () => {
    const { ask, backend, events, promptOf, engine } = ahead();
    const result = await ask([...question]);
    const plain = await setup(words).ask([...question]);
    expect(result).toMatchObject({ text: words, tokens: plain.tokens, finish: 'stop' });
    expect(textOf(events)).toBe(words);
    expect(backend.calls.some((call) => call.startsWith('decode'))).toBe(false);
    expect(backend.running).toBe(0);
    expect(backend.cache).toEqual([...promptOf(question), ...result.tokens]);
    // Every token's step and those that were under way when the end came.
    expect(engine.counts.decodeSteps).toBe(result.outputTokens + backend.depth - 1);
  });

  it('goes on from its cache in the next turn', async () => {
    const { ask, backend, promptOf } = ahead();
    const first = await ask([...question]);
    const turns = [...question, { role: 'assistant', text: first.text }, ...question] as const;
    const next = await ask(turns);
    expect(next.reusedTokens).toBe(promptOf(question).length + first.outputTokens);
    expect(next.text).toBe(words);
    expect(backend.cache).toEqual([...promptOf(turns), ...next.tokens]);
  });

  it.each([1, 2, 5])('is never more than %i tokens where no more are asked for', async (most) => {
    const { ask, backend, engine } = ahead();
    const result = await ask([...question], { sampling: { ...greedy, maxTokens: most } });
    expect(result).toMatchObject({ outputTokens: most, finish: 'length' });
    expect(engine.counts.decodeSteps).toBe(most - 1);
    expect(backend.calls.at(-1)).toBe(`run of ${most} after 0`);
  });

  it('ends after a stop with the steps that are under way, and no other', async () => {
    for (const depth of [1, 2, 3]) {
      const { ask, backend, engine, promptOf } = ahead();
      backend.depth = depth;
      const controller = new AbortController();
      backend.onDecode = (step) => {
        if (step !== 3) return;
        engine.noteStop();
        controller.abort();
      };
      const result = await ask([...question], {}, controller.signal);
      expect(result).toMatchObject({ finish: 'cancelled', outputTokens: 3 });
      expect(result.text).toBe(tokenizer.decode(result.tokens));
      expect(engine.counts.decodeStepsAfterStop).toBe(depth);
      expect(backend.running).toBe(0);
      expect(backend.cache).toEqual([...promptOf(question), ...result.tokens]);
    }
  });

  it('is chosen on the CPU where log-probabilities are asked for', async () => {
    const { ask, backend } = ahead();
    const result = await ask([...question], { logprobs: 1 });
    expect(result.text).toBe(words);
    expect(result.logprobs).toHaveLength(result.outputTokens);
    expect(backend.calls.some((call) => call.startsWith('run'))).toBe(false);
  });

  it('goes on elsewhere where the backend fails', async () => {
    const lost = new Failure('DeviceLost', 'driver reset');
    const script = scriptOf(words);
    const another = new AheadBackend(script.slice(3));
    const helps = (error: unknown) => (error === lost ? ('DeviceLost' as const) : null);
    const { ask, backend, promptOf } = setupOn(new AheadBackend(script), 'merged', {
      helps,
      another,
    });
    backend.onDecode = (step) => {
      if (step === 3) backend.failNext = lost;
    };
    const result = await ask([...question]);
    expect(result).toMatchObject({ text: words, recoveries: ['DeviceLost'] });
    expect(another.calls).toContain(`run of ${100 - 3} after 3`);
    expect(another.cache).toEqual([...promptOf(question), ...result.tokens]);
    expect([backend.running, another.running]).toEqual([0, 0]);
  });

  it('ends with what is under way where a listener fails', async () => {
    const { engine, backend, manifest } = ahead();
    const request = {
      task: manifest.tasks[0]?.id ?? '',
      turns: question,
      sampling: greedy,
      seed: 1,
    };
    const onEvent = ({ kind }: { kind: string }): void => {
      if (kind === 'piece') throw new Error('a listener');
    };
    await expect(engine.generate(request, onEvent)).rejects.toThrow('a listener');
    expect(backend.running).toBe(0);
  });
});
