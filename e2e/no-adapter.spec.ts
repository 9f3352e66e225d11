import { expect, test } from './app.ts';

// This browser runs without WebGPU: see the project of this name in playwright.config.ts.

test('without a WebGPU adapter the page says so, and fetches no model', async ({ app, server }) => {
  await app.open('tiny');
  // Both languages at once: whoever needs this message should need no setting to read it.
  const words = await app.failure('NoWebGpu');
  expect(words).toMatch(/WebGPU/);
  expect(words).toMatch(/[一-鿿]{4}/);
  expect(words).toMatch(/[a-z]+ [a-z]+ [a-z]+/);
  expect(server.requests('/models/')).toEqual([]);
});

test('danger signs are noticed without a GPU', async ({ app }) => {
  await app.open('tiny');
  await app.part('composer').fill('宝宝抽搐了，叫不醒');
  await expect(app.part('emergency-banner')).toBeVisible();
});
