import { expect, test } from './app.ts';

// This browser runs without WebGPU: see the project of this name in playwright.config.ts.

test('without a WebGPU adapter the page says so, and fetches no model', async ({ app, server }) => {
  await app.open('tiny');
  const zh = await app.failure('NoWebGpu');
  expect(zh).toMatch(/WebGPU/);
  expect(zh).toMatch(/[一-鿿]{4}/);
  await app.part('language').click();
  await expect(app.part('failure').first()).not.toHaveText(zh);
  const en = await app.failure('NoWebGpu');
  expect(en).toMatch(/WebGPU/);
  expect(en).not.toMatch(/[一-鿿]/);
  expect(server.requests('/models/')).toEqual([]);
});

test('danger signs are noticed without a GPU', async ({ app }) => {
  await app.open('tiny');
  await app.part('composer').fill('宝宝抽搐了，叫不醒');
  await expect(app.part('emergency-banner')).toBeVisible();
});
