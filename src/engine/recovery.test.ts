import { describe, expect, it } from 'vitest';
import { Failure } from '../failure.ts';
import { END, ScriptedBackend, setup, textOf, tokenizer } from './testing.ts';

const words = '多喝水，注意休息，观察体温变化。';
const script = [...tokenizer.encode(words), END];
const lost = new Failure('DeviceLost', 'driver reset');
const helps = (error: unknown): 'DeviceLost' | 'WrongNumbers' | null =>
  error === lost ? 'DeviceLost' : error instanceof Failure ? 'WrongNumbers' : null;

/** A second backend that goes on with the script after `said` tokens of the answer. */
function secondAfter(said: number): ScriptedBackend {
  return new ScriptedBackend(script.slice(said), 'another');
}

describe('a GPU that fails during an answer', () => {
  it('costs nothing of it: the tokens so far are computed anew and the rest follows', async () => {
    const another = secondAfter(3);
    const { ask, backend, events, causes, promptOf } = setup(words, 'merged', { helps, another });
    backend.onDecode = (step) => {
      if (step === 3) backend.failNext = lost;
    };
    const result = await ask('问');
    expect(result.text).toBe(words);
    expect(textOf(events)).toBe(words);
    expect(result.tokens).toEqual(script.slice(0, -1));
    expect(result.recoveries).toEqual(['DeviceLost']);
    expect(result.ran).toEqual({ backend: 'wgsl', variant: 'f32', adapter: 'another' });
    expect(causes).toEqual(['DeviceLost']);
    expect(events.filter((event) => event.kind === 'recovery')).toHaveLength(1);
    expect(backend.calls.at(-1)).toBe('dispose');
    const prompt = promptOf([{ role: 'user', text: '问' }]);
    expect(another.calls.slice(0, 2)).toEqual(['task medkqa', `prefill ${prompt.length + 3} at 0`]);
    expect(another.cache).toEqual([...prompt, ...result.tokens]);
  });

  it('before its first token starts the prompt anew', async () => {
    const another = secondAfter(0);
    const { ask, backend } = setup(words, 'merged', { helps, another });
    backend.onChunk = () => {
      throw lost;
    };
    const result = await ask('问');
    expect(result.text).toBe(words);
    expect(result.recoveries).toEqual(['DeviceLost']);
  });

  it('is noticed by numbers that are none, and the answer stays whole', async () => {
    const another = secondAfter(2);
    const { ask, backend } = setup(words, 'merged', { helps, another });
    backend.broken = 2;
    const result = await ask('问');
    expect(result.text).toBe(words);
    expect(result.recoveries).toEqual(['WrongNumbers']);
  });

  it('is used from then on, with its own cache', async () => {
    const another = secondAfter(3);
    const { ask, backend, engine } = setup(words, 'merged', { helps, another });
    backend.onDecode = (step) => {
      if (step === 3) backend.failNext = lost;
    };
    await ask('问');
    another.script = script;
    const calls = backend.calls.length;
    const second = await ask('再问');
    expect(second).toMatchObject({ text: words, recoveries: [] });
    expect(backend.calls).toHaveLength(calls);
    expect(engine.info.backend).toBe('wgsl');
  });

  it('ends the answer where nothing helps', async () => {
    const { ask, backend, events } = setup(words, 'merged', { helps: () => null });
    backend.onDecode = () => (backend.failNext = lost);
    await expect(ask('问')).rejects.toBe(lost);
    expect(events.some((event) => event.kind === 'recovery')).toBe(false);
  });

  it('ends the engine where the second try fails as well', async () => {
    const { ask, backend } = setup(words, 'merged', { helps });
    backend.onDecode = () => (backend.failNext = lost);
    await expect(ask('问')).rejects.toMatchObject({ name: 'NoWebGpu' });
    await expect(ask('再问')).rejects.toMatchObject({ name: 'NoWebGpu' });
  });

  it('does not keep a stop from ending the answer', async () => {
    const another = secondAfter(3);
    const { ask, backend } = setup(words, 'merged', { helps, another });
    const controller = new AbortController();
    backend.onDecode = (step) => {
      if (step !== 3) return;
      backend.failNext = lost;
      controller.abort();
    };
    const result = await ask('问', {}, controller.signal);
    expect(result.finish).toBe('cancelled');
    expect(result.tokens).toEqual(script.slice(0, 3));
  });
});
