import { readFile } from 'node:fs/promises';
import type { Page } from '@playwright/test';
import { type App, expect, test } from './app.ts';
import { clearStorage } from './faults.ts';

/** Storage that the browser clears, as its settings let a person do, while a model is on its way. */

test.describe.configure({ timeout: 150_000 });

const shard = '/models/tiny-routed/shard-00000.bin';
const ready = (app: App) => app.page.locator('[data-testid="model"][data-state="ready"]');

const download = async (app: App): Promise<void> => {
  await app.page.evaluate(() => (location.hash = '#/models'));
  await app.part('model-address').fill('models/tiny-routed/');
  await app.part('download').click();
};

/** Names of the packages' folders, whole or not. */
const folders = (page: Page): Promise<string[]> =>
  page.evaluate(async () => {
    const root = await navigator.storage.getDirectory();
    const models = await root.getDirectoryHandle('models', { create: true });
    const names: string[] = [];
    for await (const name of models.keys()) names.push(name);
    return names;
  });

for (const [when, fault] of [
  ['while a file is written', 'trickle'],
  ['between two tries at a file', 'cut'],
] as const) {
  test(`storage that is cleared ${when} is told once; no half package is left, and all can begin anew`, async ({
    app,
    page,
    server,
  }) => {
    await app.openReady('tiny');
    await app.greedy(16);
    const answer = await app.ask('宝宝咳嗽三天');
    server.break(shard, fault);
    await download(app);
    await expect.poll(() => server.served(shard)).toBeGreaterThan(0);
    await clearStorage(page, server);
    server.repair();
    await expect(app.part('work')).toHaveCount(0, { timeout: 30_000 });
    expect(await app.failure('StorageCleared')).toContain('导出');
    await expect(app.part('failure')).toHaveCount(1);
    await expect(ready(app)).toHaveCount(0);
    expect(await folders(page)).toEqual([]);
    // What is in the page's memory is still there, can be saved, and goes on.
    const coming = page.waitForEvent('download');
    await app.part('export-in-hand').click();
    const text = await readFile(await (await coming).path(), 'utf8');
    expect(text).toContain(JSON.stringify(answer.split('\n')[0] ?? '').slice(1, -1));
    await page.evaluate(() => (location.hash = '#/'));
    expect(await app.answer()).toBe(answer);
    expect(await app.ask('还发烧')).not.toBe('');

    // A new install, in this page and after a reload.
    await download(app);
    await expect(ready(app)).toHaveCount(1, { timeout: 45_000 });
    await page.reload();
    await page.evaluate(() => (location.hash = '#/'));
    await app.ready();
    await expect(app.part('failure')).toHaveCount(0);
    await page.evaluate(() => (location.hash = '#/models'));
    await expect(ready(app)).toHaveCount(2, { timeout: 45_000 });
  });
}
