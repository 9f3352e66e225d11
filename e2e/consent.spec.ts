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
