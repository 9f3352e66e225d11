import { expect, test } from './app.ts';
import { goldenOf, textOf } from './golden.ts';

// This browser runs without WebGPU: see `withoutAdapter` in playwright.config.ts.

// The model is loaded twice, and proves its numbers each time.
test.describe.configure({ timeout: 120_000 });

const nano = goldenOf('nano', 'medkqa');
const nanoText = (count: number): string =>
  textOf('../public/models/nano/tokenizer.json', nano.tokens.slice(0, count));

test('without WebGPU the model answers on the CPU as PyTorch does, also when its files are gone', async ({
  app,
  page,
  server,
}) => {
  await app.openReady(undefined, 'auto');
  expect(await app.backend()).toBe('onnx');
  await app.greedy(16);
  await app.choose('medkqa');
  expect(await app.ask(nano.prompt)).toBe(nanoText(16));
  await expect(app.part('answer-facts')).toContainText('CPU, onnxruntime-web');
  // The service worker makes a plain host's page isolated: it may have threads.
  await expect(app.part('answer-facts')).toContainText(/[2-4] threads/);
  // Its own files came from this site, once each, and nothing but what is used.
  const wasm = server.requests('/assets/').filter((path) => path.endsWith('.wasm'));
  expect(wasm).toHaveLength(1);

  server.break('/models/', 'missing');
  server.log.length = 0;
  await page.reload();
  await app.ready();
  await app.part('new-conversation').click();
  expect(await app.ask(nano.prompt)).toBe(nanoText(16));
  expect(server.requests('/models/')).toEqual([]);
});

test.describe('in a cross-origin isolated page', () => {
  test.use({ isolated: true });

  test('threads compute, every task has its gates, and a second question reuses the first', async ({
    app,
    page,
  }) => {
    await app.openReady('tiny', 'auto');
    expect(await page.evaluate(() => globalThis.crossOriginIsolated)).toBe(true);
    await app.greedy(32);
    for (const task of ['medkqa', 'evidiag', 'trerecom'] as const) {
      const { prompt, text } = goldenOf('tiny', task);
      await app.choose(task);
      expect(await app.ask(prompt)).toBe(text);
    }
    await expect(app.part('answer-facts')).toContainText(/[2-4] threads/);
    expect(await app.ask('还需要注意什么？')).not.toBe('');
  });
});

test('a stop ends an answer on the CPU within one step', async ({ app }) => {
  await app.openReady(undefined, 'auto');
  await app.rambling(1); // an answer that ends by itself may end before the click
  await app.send(nano.prompt);
  const length = async () => (await app.answer()).length;
  await expect.poll(length, { intervals: [50] }).toBeGreaterThan(1);
  await app.part('stop').click();
  await app.answered('stopped');
  const { decodeStepsAfterStop } = await app.counts();
  expect(decodeStepsAfterStop).toBeLessThanOrEqual(1);
});

test('a package with a router runs on the CPU', async ({ app }) => {
  const { prompt, text } = goldenOf('tiny-routed', 'evidiag');
  await app.openReady('tiny-routed', 'cpu');
  await app.greedy(32);
  await app.choose('evidiag');
  expect(await app.ask(prompt)).toBe(text);
});

test('a runtime that does not come is a part that is missing, and the page that is loaded anew has it', async ({
  app,
  server,
}) => {
  server.break('/assets/ort-wasm', 'dead');
  await app.open('tiny', 'cpu');
  await app.failure('PartMissing');
  server.repair();
  await app.part('retry').click();
  await app.ready();
  expect(await app.backend()).toBe('onnx');
});
