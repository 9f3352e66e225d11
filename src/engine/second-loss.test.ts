import { expect, it } from 'vitest';
import { Failure } from '../failure.ts';
import { END, ScriptedBackend, setup, tokenizer } from './testing.ts';

/** A GPU that is lost again while the next one computes what the first one knew. */

const words = '多喝水，注意休息，观察体温变化。';
const script = [...tokenizer.encode(words), END];
const lost = new Failure('DeviceLost', 'driver reset');
const helps = (error: unknown): 'DeviceLost' | null => (error === lost ? 'DeviceLost' : null);

/** A backend that is lost in every prefill. */
function lostInPrefill(): ScriptedBackend {
  const backend = new ScriptedBackend(script, 'lost');
  backend.onChunk = () => {
    throw lost;
  };
  return backend;
}

it('in the prompt, lost again in the prompt: a third one answers', async () => {
  const third = new ScriptedBackend(script, 'third');
  const { ask, backend } = setup(words, 'merged', {
    helps,
    another: lostInPrefill(),
    further: [third],
  });
  backend.onChunk = () => {
    throw lost;
  };
  const result = await ask('问');
  expect(result.text).toBe(words);
  expect(result.recoveries).toEqual(['DeviceLost', 'DeviceLost']);
  expect(result.ran.adapter).toBe('third');
});

it('in the answer, lost again when its tokens are computed anew: a third one goes on', async () => {
  const third = new ScriptedBackend(script.slice(3), 'third');
  const { ask, backend } = setup(words, 'merged', {
    helps,
    another: lostInPrefill(),
    further: [third],
  });
  backend.onDecode = (step) => {
    if (step === 3) backend.failNext = lost;
  };
  const result = await ask('问');
  expect(result.text).toBe(words);
  expect(result.tokens).toEqual(script.slice(0, -1));
  expect(result.recoveries).toEqual(['DeviceLost', 'DeviceLost']);
});
