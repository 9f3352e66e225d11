import { expect, tasks, test } from './app.ts';
import { goldenOf } from './golden.ts';

const MAX_TOKENS = 32; // of the golden answers

for (const task of tasks) {
  test(`a first visit leads to PyTorch's answer in ${task}`, async ({ app }) => {
    const { prompt, text } = goldenOf('tiny', task);
    await app.openReady('tiny');
    await app.greedy(MAX_TOKENS);
    await app.choose(task);
    expect(await app.ask(prompt)).toBe(text);
    await expect(app.part('notice')).toBeVisible();
  });
}

test('a package with a router answers as PyTorch does with its router', async ({ app }) => {
  const { prompt, text } = goldenOf('tiny-routed', 'evidiag');
  await app.openReady('tiny-routed');
  await app.greedy(MAX_TOKENS);
  await app.choose('evidiag');
  expect(await app.ask(prompt)).toBe(text);
});

test('three tasks in one visit, without loading again', async ({ app, server }) => {
  await app.openReady('tiny');
  await app.greedy(MAX_TOKENS);
  const requests = server.log.length;
  for (const task of tasks) {
    const { prompt, text } = goldenOf('tiny', task);
    await app.choose(task);
    expect(await app.ask(prompt)).toBe(text);
  }
  expect(server.log.slice(requests)).toEqual([]);
});

test('a second question continues the conversation', async ({ app }) => {
  const { prompt } = goldenOf('tiny', 'medkqa');
  const next = '需要吃药吗？';
  await app.openReady('tiny');
  await app.greedy(16);
  await app.choose('medkqa');
  await app.ask(prompt);
  const inContext = await app.ask(next);
  await expect(app.part('turn-user')).toHaveCount(2);
  await expect(app.part('turn-assistant')).toHaveCount(2);
  await app.part('new-conversation').click();
  await expect(app.part('turn-user')).toHaveCount(0);
  await expect(app.part('turn-assistant')).toHaveCount(0);
  const alone = await app.ask(next);
  expect(inContext).not.toBe('');
  expect(inContext).not.toBe(alone);
});

/** Decode steps under way at once on a software adapter: `softwareTuning.stepsInFlight`. */
const STEPS_IN_FLIGHT = 2;

test('after stop no decode step runs but those under way, and the text stays', async ({
  app,
  page,
}) => {
  await app.openReady('tiny');
  await app.greedy(256);
  await app.choose('medkqa');
  // The click comes from inside the page, so that it falls between two early tokens.
  await page.evaluate(() => {
    new MutationObserver((_, observer) => {
      const text = document.querySelector('[data-testid=turn-assistant] .text');
      const stop = document.querySelector<HTMLElement>('[data-testid=stop]');
      if ((text?.textContent ?? '').trim() === '' || stop === null) return;
      observer.disconnect();
      stop.click();
    }).observe(document.body, { childList: true, characterData: true, subtree: true });
  });
  await app.send(goldenOf('tiny', 'medkqa').prompt);
  await app.answered('stopped');
  const kept = await app.answer();
  const counts = await app.counts();
  expect(counts.decodeSteps).toBeGreaterThan(0);
  expect(counts.decodeStepsAfterStop).toBeLessThanOrEqual(STEPS_IN_FLIGHT);
  expect(kept).not.toBe('');
  await page.waitForTimeout(500);
  expect(await app.counts()).toEqual(counts);
  expect(await app.answer()).toBe(kept);
  // A stopped conversation goes on.
  await app.greedy(16);
  await app.ask('还有呢？');
});

test('regenerate, copy and new conversation', async ({ app, page, context }) => {
  const { prompt, text } = goldenOf('tiny', 'medkqa');
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  await app.openReady('tiny');
  await app.greedy(MAX_TOKENS);
  await app.choose('medkqa');
  await app.ask(prompt);
  const steps = (await app.counts()).decodeSteps;
  await app.part('regenerate').last().click();
  await expect.poll(async () => (await app.counts()).decodeSteps).toBeGreaterThan(steps);
  await app.answered();
  expect(await app.answer()).toBe(text);
  await expect(app.part('turn-user')).toHaveCount(1);
  await expect(app.part('turn-assistant')).toHaveCount(1);
  await app.part('copy').last().click();
  await expect.poll(() => page.evaluate(() => navigator.clipboard.readText())).toContain(text);
  await app.part('new-conversation').click();
  await expect(app.part('turn-assistant')).toHaveCount(0);
});

test('the last conversation is there again after a reload', async ({ app, page }) => {
  const { prompt } = goldenOf('tiny', 'medkqa');
  await app.openReady('tiny');
  await app.greedy(16);
  await app.choose('medkqa');
  const answer = await app.ask(prompt);
  await page.reload();
  await app.ready();
  await app.choose('medkqa');
  await expect(app.part('turn-user')).toContainText([prompt]);
  expect(await app.answer()).toBe(answer);
});
