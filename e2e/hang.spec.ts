import { expectAccessible } from './accessible.ts';
import { type App, expect, test } from './app.ts';
import { hang, inMidAnswer, LONG, QUESTION, said, workerOf } from './faults.ts';

/**
 * A worker that hangs says nothing: the page notices, and ends it when the person wants it. The page's
 * clock is moved on by hand; the worker, which really hangs, has its own.
 */

test.describe.configure({ timeout: 150_000 });
// No reload on the first visit: each page has one worker.
test.use({ isolated: true });

async function expectAccessibleInBoth(app: App): Promise<void> {
  for (const colorScheme of ['dark', 'light'] as const) {
    await app.page.emulateMedia({ colorScheme });
    await expectAccessible(app, `the note in a ${colorScheme} theme`);
  }
}

test('a worker in an endless loop is told of, not ended; who ends it keeps the words and gets a new answer', async ({
  app,
  page,
}) => {
  await page.clock.install();
  await app.openReady('tiny');
  await app.rambling(LONG);
  const hung: Promise<void>[] = [];
  await inMidAnswer(page, () => hung.push(hang(page)));
  await app.send(QUESTION);
  await expect.poll(() => hung.length).toBe(1);
  await hung[0];
  await page.clock.runFor(50_000);
  const kept = await said(app);
  // A laptop that was closed for a night: its clock has gone on, the worker may well be healthy.
  await page.clock.fastForward('08:00:00');
  await page.clock.runFor(50_000);
  await expect(app.part('stall')).toHaveCount(0);
  // A minute, or more where the model took long to load on this machine.
  await page.clock.runFor(600_000);
  await expect(app.part('stall')).toContainText(/模型已有 \d+ 秒没有任何进展/);
  await expect(app.part('turn-assistant').last()).toHaveAttribute('data-state', 'streaming');
  await expectAccessibleInBoth(app);
  await app.part('language').click();
  await expect(app.part('stall').getByRole('alert')).toContainText(/has not moved for \d+ seconds/);
  await expectAccessibleInBoth(app);
  await app.expectNoSidewaysScroll();
  await app.part('language').click();

  // The note has taken no focus. Whoever was in it is back where they were when it goes.
  await app.part('stop').focus();
  await app.part('stall-wait').focus();
  await page.keyboard.press('Enter');
  await expect(app.part('stall')).toHaveCount(0);
  await expect(app.part('stop')).toBeFocused();
  await page.clock.runFor(1_400_000);
  await expect(app.part('stall')).toBeVisible();
  await app.part('stall-renew').click();
  await app.answered('failed');
  // What had the focus before is gone as well by now.
  await expect(app.part('composer')).toBeFocused();
  const note = app.part('turn-assistant').getByTestId('failure');
  await expect(note).toHaveAttribute('data-failure', 'WorkerHung');
  await app.ready();
  await expect(app.part('stall')).toHaveCount(0);
  expect(await said(app)).toBe(kept);
  await app.part('go-on').click();
  await expect(app.part('turn-assistant')).toHaveCount(2);
  await app.answered();
  expect(await said(app)).not.toBe('');
  await page.reload();
  await app.ready();
  await expect(app.part('turn-assistant').first().locator('.text')).toContainText(
    kept.split('\n')[0]?.trim() ?? '?',
  );
});

test('a GPU that never answers is told of as well; what comes after all takes the word back', async ({
  app,
  page,
}) => {
  await page.clock.install();
  await app.openReady('tiny');
  await app.rambling(LONG);
  const letGo = new Promise<void>((resolve) => {
    page.on('console', (line) => line.text() === 'held' && resolve());
  });
  await workerOf(page).evaluate(() => {
    const usual = Reflect.get(GPUBuffer.prototype, 'mapAsync') as (
      ...given: unknown[]
    ) => Promise<undefined>;
    let count = 0;
    GPUBuffer.prototype.mapAsync = async function (...given) {
      count += 1;
      if (count === 20) {
        console.log('held');
        await new Promise((resolve) => Reflect.set(globalThis, 'letGo', resolve));
      }
      return usual.apply(this, given);
    };
  });
  await app.send(QUESTION);
  await letGo;
  await page.clock.runFor(600_000);
  await expect(app.part('stall')).toBeVisible();
  await workerOf(page).evaluate(() => (Reflect.get(globalThis, 'letGo') as () => void)());
  await expect(app.part('stall')).toHaveCount(0);
  await app.answered();
  await expect(app.part('failure')).toHaveCount(0);
});

test('a load that hangs can be begun anew, from where it was', async ({ app, page, server }) => {
  const shard = '/models/tiny/shard-00000.bin';
  server.break(shard, 'trickle');
  await page.clock.install();
  await app.open('tiny');
  await expect(app.part('load-progress')).toHaveAttribute('data-phase', 'download');
  await expect.poll(() => server.served(shard)).toBeGreaterThan(0);
  await hang(page);
  server.repair();
  await page.clock.runFor(2000); // what it said before has come by then
  await page.clock.runFor(600_000);
  await expect(app.part('stall')).toHaveAttribute('data-kind', 'load');
  await app.part('stall-renew').click();
  await app.ready();
  await expect(app.part('stall')).toHaveCount(0);
  await app.greedy(16);
  expect(await app.ask(QUESTION)).not.toBe('');
});
