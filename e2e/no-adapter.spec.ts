import { expect, test } from './app.ts';

// This browser runs without WebGPU: see the project of this name in playwright.config.ts.

test('who wants WebGPU and has no adapter is told so, and no model is fetched', async ({
  app,
  server,
}) => {
  await app.open('tiny');
  // Both languages at once: whoever needs this message should need no setting to read it.
  const words = await app.failure('NoWebGpu');
  expect(words).toMatch(/WebGPU/);
  expect(words).toMatch(/[一-鿿]{4}/);
  expect(words).toMatch(/[a-z]+ [a-z]+ [a-z]+/);
  expect(server.requests('/models/')).toEqual([]);
  // One press, and the CPU does without.
  await app.part('use-cpu').first().click();
  await app.ready();
  expect(await app.backend()).toBe('onnx');
});

test('danger signs are noticed without a GPU', async ({ app }) => {
  await app.open('tiny');
  await app.part('composer').fill('宝宝抽搐了，叫不醒');
  await expect(app.part('emergency-banner')).toBeVisible();
});
