import { expect, test, type App } from './app.ts';
import type { Fault } from './server.ts';

const manifest = '/models/tiny/manifest.json';
const shard = '/models/tiny/shard-00000.bin';

const cases: readonly (readonly [string, string, Fault, string])[] = [
  ['a missing manifest', manifest, 'missing', 'NotFound'],
  ['a missing shard', shard, 'missing', 'NotFound'],
  ['a truncated shard', shard, 'truncated', 'ShardTruncated'],
  ['a shard whose connection breaks off', shard, 'cut', 'ShardTruncated'],
  ['a web page instead of a shard', shard, 'web-page', 'NotAShard'],
  ['a web page instead of the manifest', manifest, 'web-page', 'NotAShard'],
  ['a shard with a wrong byte', shard, 'corrupt', 'ShardCorrupt'],
  ['a server that does not answer', '/models/', 'dead', 'Offline'],
];

/** Reads the message in both languages; the page starts in Chinese. */
async function messages(app: App, failure: string): Promise<{ zh: string; en: string }> {
  const zh = await app.failure(failure);
  expect(zh).toMatch(/[一-鿿]{4}/);
  await app.part('language').click();
  await expect(app.part('failure').first()).not.toHaveText(zh);
  const en = await app.failure(failure);
  expect(en).toMatch(/[a-z]+ [a-z]+ [a-z]+/);
  expect(en).not.toMatch(/[一-鿿]/);
  return { zh, en };
}

const told = new Map<string, string>();

for (const [what, path, fault, name] of cases) {
  test(`${what} is told as ${name}, in both languages`, async ({ app, server }) => {
    server.break(path, fault);
    await app.open('tiny');
    const { zh, en } = await messages(app, name);
    await expect(app.part('model-ready')).toHaveCount(0);
    // No other failure has these words.
    for (const words of [zh, en]) expect(told.get(words) ?? name).toBe(name);
    told.set(zh, name).set(en, name);
  });
}

test('a full storage is told as StorageFull', async ({ app, page, server }) => {
  const devtools = await page.context().newCDPSession(page);
  const origin = new URL(server.url()).origin;
  await devtools.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: 100_000 });
  // No room for the service worker either: the page goes on without one.
  await app.agree();
  await page.goto(server.url('tiny'));
  await messages(app, 'StorageFull');
});

test('a GPU that goes away while nobody asks is replaced for the next answer', async ({
  app,
  browser,
}) => {
  await app.openReady('tiny');
  await app.greedy(24);
  const before = await app.ask('宝宝发烧两天，还咳嗽。');
  await expect(app.part('recovered')).toHaveCount(0);
  const devtools = await browser.newBrowserCDPSession();
  // No answer comes: the command ends the process that would give it.
  void devtools.send('Browser.crashGpuProcess').catch(() => undefined);
  await app.part('new-conversation').click();
  expect(await app.ask('宝宝发烧两天，还咳嗽。')).toBe(before);
  await expect(app.part('recovered')).toBeVisible();
  await expect(app.part('failure')).toHaveCount(0);
});

test('a page that died during an answer is careful the next time, until it is told otherwise', async ({
  app,
}) => {
  await app.openReady('tiny');
  await app.greedy(24);
  const before = await app.ask('宝宝发烧两天，还咳嗽。');
  await expect(app.part('careful')).toHaveCount(0);
  // What a page that is killed leaves behind; an ordinary reload takes it away.
  await app.page.addInitScript(() => {
    if (sessionStorage.getItem('died') === null) {
      localStorage.setItem('pediatricsgpt.risk.killed', 'answer usual');
      sessionStorage.setItem('died', 'once');
    }
  });
  await app.page.reload();
  await app.ready();
  await expect(app.part('careful')).toBeVisible();
  await app.part('new-conversation').click();
  expect(await app.ask('宝宝发烧两天，还咳嗽。')).toBe(before);
  await app.part('load-usual').click();
  await app.ready();
  await expect(app.part('careful')).toHaveCount(0);
  expect(await app.ask('宝宝发烧两天，还咳嗽。')).not.toBe('');
});
