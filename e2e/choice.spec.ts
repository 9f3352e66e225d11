import { expect, test } from './app.ts';
import { goldenOf } from './golden.ts';

// SwiftShader computes on the CPU: a person with such an adapter is better off without it.

const { prompt, text } = goldenOf('tiny', 'medkqa');

test('a software adapter is left alone, until the person asks for it; the wish is kept', async ({
  app,
  page,
}) => {
  await app.openReady('tiny', 'auto');
  expect(await app.backend()).toBe('onnx');
  await app.greedy(32);
  await app.choose('medkqa');
  expect(await app.ask(prompt)).toBe(text);

  await app.part('settings').click();
  await expect(app.part('setting-backend-auto')).toBeChecked();
  await app.part('setting-backend-webgpu').check();
  await page.keyboard.press('Escape');
  await app.ready();
  await expect.poll(() => app.backend()).toBe('wgsl');
  await app.part('new-conversation').click();
  expect(await app.ask(prompt)).toBe(text);

  // The address says nothing now: what was chosen is kept.
  await page.goto(new URL('?model=tiny', app.server.url()).href);
  await app.ready();
  expect(await app.backend()).toBe('wgsl');
});
