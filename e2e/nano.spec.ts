import { expect, test } from './app.ts';
import { goldenOf, textOf } from './golden.ts';

const TOKENS = 16; // the fewest that the settings allow; software WebGPU is slow

test('the model that the app brings along answers as PyTorch does', async ({ app }) => {
  const { prompt, tokens } = goldenOf('nano', 'medkqa');
  await app.openReady();
  await app.greedy(TOKENS);
  await app.choose('medkqa');
  const expected = textOf('../public/models/nano/tokenizer.json', tokens.slice(0, TOKENS));
  expect(await app.ask(prompt)).toBe(expected);
  await app.picture('answer');
});
