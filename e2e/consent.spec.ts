import { expect, test } from './app.ts';

test('the first visit asks for consent, and remembers it until it is withdrawn', async ({
  app,
  page,
  server,
}) => {
  await page.goto(server.url('tiny'));
  // The first visit to this host is loaded once more.
  await page.waitForFunction(() => globalThis.crossOriginIsolated);
  const dialog = app.part('consent');
  await expect(dialog).toContainText('120');
  await expect(app.part('consent-agree')).toBeDisabled();
  await page.keyboard.press('Escape');
  await page.keyboard.press('Escape');
  await expect(dialog).toBeVisible();
  await app.picture('consent');
  await app.part('consent-guardian').check();
  await app.part('consent-agree').click();
  await expect(dialog).toBeHidden();
  await page.reload();
  await app.ready();
  await expect(dialog).toBeHidden();
  await app.part('about').click();
  await app.part('consent-withdraw').click();
  await page.reload();
  await expect(dialog).toBeVisible();
});

test('what is ticked before the offline program is there stays ticked', async ({
  app,
  page,
  server,
}) => {
  server.break('/sw.js', 'trickle'); // ten seconds
  let loads = 0;
  page.on('load', () => (loads += 1));
  await page.goto(server.url('tiny'));
  await app.part('consent-guardian').check();
  await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
  // What would be loaded again would be so by now: the model is, which waits for that.
  await expect(app.part('load-progress').or(app.part('model-ready'))).not.toHaveAttribute(
    'data-phase',
    'starting',
  );
  await expect(app.part('consent-guardian')).toBeChecked();
  await app.part('consent-agree').click();
  await app.ready();
  expect(loads).toBe(1);
  // The next visit has its threads.
  await page.reload();
  await app.ready();
  expect(await page.evaluate(() => globalThis.crossOriginIsolated)).toBe(true);
  expect(loads).toBe(2);
});
