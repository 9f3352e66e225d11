import type { Page } from '@playwright/test';
import { expectAccessible } from './accessible.ts';
import { type App, expect, test } from './app.ts';
import { assetPath } from './scripted.ts';

/** Parts of the app that do not come when they are needed: each is told as what it is, in both languages. */

test.describe.configure({ timeout: 120_000 });
// Nothing is kept by a service worker yet: what is missing keeps it from being installed.
test.use({ isolated: true });

const go = (page: Page, screen: string): Promise<void> =>
  page.evaluate((name) => void (location.hash = `#/${name}`), screen);

const missing = (app: App) =>
  app.part('failure').and(app.page.locator('[data-failure=PartMissing]'));

test('a screen that does not come is told of, in both languages; after a reload it is there and nothing is lost', async ({
  app,
  page,
  server,
}) => {
  server.break('/assets/ModelsScreen', 'missing');
  await app.openReady('tiny');
  await app.greedy(16);
  const answer = await app.ask('宝宝咳嗽三天');
  await app.part('composer').fill('还没有问完的');
  await go(page, 'models');
  await expect(missing(app)).toContainText('应用的这一部分没有取到');
  await app.part('language').click();
  await expect(missing(app)).toContainText('connect and reload');
  await app.part('language').click();
  server.repair();
  await missing(app).getByTestId('retry').click();
  await expect(app.part('model-address')).toBeVisible();
  await go(page, '');
  await expect.poll(() => app.answer()).toBe(answer); // it comes from the records
  await expect(app.part('composer')).toHaveValue('还没有问完的');
});

test('English words that do not come leave the page in Chinese, and it says so in both', async ({
  app,
  server,
}) => {
  server.break('/assets/en-', 'missing');
  server.break('/models/', 'missing');
  await app.open('tiny');
  await app.part('language').click();
  await expect(missing(app)).toContainText('请连接网络');
  await expect(app.page.getByText('The English words did not come.')).toBeVisible();
  server.repair();
  await app.part('language').click();
  await expect(missing(app)).toHaveCount(0);
  await expect(app.part('send')).toHaveText('Send');
});

test.describe('in a browser in English', () => {
  test.use({ locale: 'en-US' });

  test('a page whose English words do not come is there all the same', async ({ app, server }) => {
    server.break('/assets/en-', 'missing');
    await app.openReady('tiny');
    await expect(app.page.getByText('The English words did not come.')).toBeVisible();
    await app.greedy(16);
    expect(await app.ask('宝宝咳嗽三天')).not.toBe('');
  });
});

const ofEngine = {
  worker: /^worker-.*\.js$/,
  'ONNX Runtime': /^onnx-runtime-.*\.js$/,
  'graph for ONNX Runtime': /^onnx-(?!runtime).*\.js$/,
};

for (const [part, pattern] of Object.entries(ofEngine)) {
  test(`without the ${part} there is no model, and the page says why`, async ({ app, server }) => {
    server.break(await assetPath(pattern), 'missing');
    await app.open('tiny', 'cpu');
    expect(await app.failure('PartMissing')).toContain('重新加载页面');
    server.repair();
    await app.part('retry').first().click();
    await app.ready();
  });
}

/** Whether the words of index.html were ever to be seen or read out, from the first frame on. */
const lateSeen = (page: Page) =>
  page.addInitScript(() => {
    Reflect.set(globalThis, 'lateSeen', []);
    const look = () => {
      const late = document.querySelector('.late');
      if (late !== null) {
        const isSeen = late.checkVisibility({ visibilityProperty: true });
        (Reflect.get(globalThis, 'lateSeen') as boolean[]).push(isSeen);
      }
      requestAnimationFrame(look);
    };
    look();
  });

for (const colorScheme of ['light', 'dark'] as const) {
  test(`a page whose first script does not come says so after a while, in a ${colorScheme} theme`, async ({
    app,
    page,
    server,
  }) => {
    await page.emulateMedia({ colorScheme });
    server.break(await assetPath(/^index-.*\.js$/), 'missing');
    await app.agree();
    await page.goto(server.url('tiny'));
    const late = page.getByRole('alert');
    await expect(app.part('late')).toBeHidden();
    await expect(late).toHaveCount(0);
    await expect(late).toContainText('请连接网络，再重新加载页面');
    await expect(late).toContainText('都不会丢失');
    await expect(late).toContainText('Please connect and reload the page');
    await expect(late.getByRole('link', { name: '120' })).toHaveCount(2);
    await expectAccessible(app, 'the page without its script');
    await app.expectNoSidewaysScroll();
    server.repair();
    await late.getByRole('link', { name: '重新加载' }).click();
    await app.ready();
    expect(page.url()).toBe(server.url('tiny'));
    await expect(app.part('late')).toHaveCount(0);
  });
}

test('a page whose script takes its time never shows these words, nor reads them out', async ({
  app,
  page,
  server,
}) => {
  await lateSeen(page);
  server.break(await assetPath(/^index-.*\.js$/), 'slow');
  await app.open('tiny');
  await expect(app.part('composer')).toBeVisible();
  const seen = await page.evaluate(() => Reflect.get(globalThis, 'lateSeen') as boolean[]);
  expect(seen.length).toBeGreaterThan(0);
  expect(seen).not.toContain(true);
  await expect(app.part('late')).toHaveCount(0);
});
