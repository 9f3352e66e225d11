import { readFile } from 'node:fs/promises';
import type { Page } from '@playwright/test';
import { type App, expect, test } from './app.ts';
import { scriptEngine } from './scripted.ts';

/** Clocks that jump: batteries die, people set the date. */

test.describe.configure({ timeout: 120_000 });

const YEAR = 365 * 24 * 60 * 60 * 1000;

/** Every saved record, as the page exports it. */
async function exported(app: App, page: Page) {
  await page.evaluate(() => (location.hash = '#/records'));
  const coming = page.waitForEvent('download');
  await app.part('export').click();
  const text = await readFile(await (await coming).path(), 'utf8');
  await page.evaluate(() => (location.hash = '#/'));
  return JSON.parse(text) as {
    consultations: {
      title: string;
      created: string;
      updated: string;
      messages: { text: string }[];
    }[];
  };
}

test('a clock set back or forward by years loses nothing, and makes nobody a newborn', async ({
  app,
  page,
  server,
}) => {
  await scriptEngine(server);
  const now = Date.parse('2026-11-21T08:00:00.000Z');
  await page.clock.install({ time: now });
  await app.openReady('tiny');
  await app.part('child-add').click();
  await app.part('child-nickname').fill('豆豆');
  await app.part('child-birth').fill('2024-05-21');
  await app.part('child-save').click();
  await expect(app.part('history-child')).toHaveValue(/./);
  await app.choose('evidiag');
  await app.part('history-new').click();
  await app.part('intake-open').click();
  await expect(app.part('intake-months')).toHaveValue('6');
  await page.keyboard.press('Escape');
  await app.ask('甲一');

  await page.clock.setSystemTime(now - 20 * YEAR);
  await app.ask('甲二');
  await app.part('new-conversation').click();
  await app.part('intake-open').click();
  await expect(app.part('intake-months')).toHaveValue('');
  await page.keyboard.press('Escape');
  await app.ask('乙');

  await page.clock.setSystemTime(now + 30 * YEAR);
  await app.part('new-conversation').click();
  await app.ask('丙');
  await page.reload();
  await app.ready();
  await expect(app.part('history-entry')).toHaveCount(3);
  await expect(app.part('history-entry').first()).toContainText('丙');
  const { consultations } = await exported(app, page);
  const texts = consultations.map(({ messages }) => messages.map(({ text }) => text).join());
  expect(texts).toEqual(['丙,丙', '甲一,甲一,甲二,甲二', '乙,乙']);
  for (const { created, updated } of consultations) expect(updated >= created).toBe(true);
});

test('records lock after their minutes also where the clock is set back meanwhile', async ({
  app,
  page,
  server,
}) => {
  await scriptEngine(server);
  const now = Date.parse('2026-11-21T08:00:00.000Z');
  await page.clock.install({ time: now });
  await app.openReady('tiny');
  await app.ask('秘密');
  await page.evaluate(() => (location.hash = '#/records'));
  await app.part('passphrase-set').click();
  await app.part('passphrase-new').fill('一个足够长的口令');
  await app.part('passphrase-again').fill('一个足够长的口令');
  await app.part('passphrase-understood').check();
  await app.part('passphrase-submit').click();
  await expect(app.part('lock-now')).toBeVisible();
  await page.clock.setSystemTime(now - YEAR);
  await page.clock.fastForward('14:00');
  await expect(app.part('history-entry')).toHaveCount(1);
  await page.clock.fastForward('02:00');
  await expect(app.part('history-entry')).toHaveCount(0);
  await page.evaluate(() => (location.hash = '#/'));
  await expect(app.part('turn-user')).toHaveCount(0);
  await expect(page.getByText('秘密')).toHaveCount(0);
});
