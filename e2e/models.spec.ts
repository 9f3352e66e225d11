import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { App, expect, test } from './app.ts';
import type { Fault } from './server.ts';

/** The page of models: what comes in, what breaks off, what is left behind. */

const fixtures = fileURLToPath(new URL('./fixtures/', import.meta.url));
const shard = '/models/tiny-routed/shard-00000.bin';
const address = 'models/tiny-routed/';

/** The page of models, with `tiny` in use. */
async function openModels(app: App): Promise<void> {
  await app.openReady('tiny');
  await app.page.goto(`${app.server.url('tiny')}#/models`);
  await expect(app.part('model').first()).toBeVisible();
}

const download = async (app: App): Promise<void> => {
  await app.part('model-address').fill(address);
  await app.part('download').click();
};

const card = (app: App, state: string) =>
  app.page.locator(`[data-testid="model"][data-state="${state}"]`);

/** The two packages are there once both are whole. */
const expectTwo = async (app: App): Promise<void> => {
  await expect(card(app, 'ready')).toHaveCount(2, { timeout: 45_000 });
  await expect(app.part('work')).toHaveCount(0);
};

test('a model is downloaded, used, and deleted', async ({ app, server }) => {
  await openModels(app);
  await expect(app.part('model-used')).toHaveCount(1);
  await download(app);
  await expectTwo(app);
  const taken = async () => Number(await app.part('storage-used').getAttribute('data-bytes'));
  await expect.poll(taken).toBeGreaterThan(400_000); // counted anew after the download
  const used = await taken();
  await app.part('use-model').first().click();
  const routed = app.page.locator('[data-testid="model"]', { has: app.part('model-used') });
  await expect(routed).toHaveCount(1, { timeout: 45_000 });
  // The choice outlives the page, without an address that names it and without the network.
  server.break('/models/', 'dead');
  await app.page.goto(server.url().replace('?', '?x=1&'));
  await app.ready();
  await app.page.goto(`${server.url()}#/models`);
  await app.picture('models');
  await expectTwo(app);
  await expect(app.part('model-used')).toHaveCount(1, { timeout: 45_000 });
  const unused = card(app, 'ready').filter({ hasNot: app.part('model-used') });
  await unused.getByTestId('remove').click();
  await unused.getByTestId('remove-yes').click();
  await expect(card(app, 'ready')).toHaveCount(1);
  await expect.poll(taken).toBeLessThan(used - 200_000);
  await app.part('remove').click();
  await app.part('remove-yes').click();
  await expect(card(app, 'ready')).toHaveCount(0);
  await app.page.goto(`${server.url()}#/`);
  await app.failure('NoModel');
});

test('a folder and picked files are imported without the network', async ({ app, server }) => {
  await openModels(app);
  server.break('/models/', 'dead');
  await app.part('folder-input').setInputFiles(join(fixtures, 'tiny-routed'));
  await expectTwo(app);
  await app
    .part('files-input')
    .setInputFiles(
      ['manifest.json', 'tokenizer.json', 'shard-00000.bin'].map((name) =>
        join(fixtures, 'tiny-llama', name),
      ),
    );
  await expect(card(app, 'ready')).toHaveCount(3);
  await app.part('folder-input').setInputFiles(join(fixtures, 'golden'));
  await app.failure('BadFolder');
  await expect(card(app, 'ready')).toHaveCount(3);
});

test('a model is copied to a folder and imported from it', async ({ app, page, server }) => {
  // The browser's own dialog cannot be driven: it is answered with a folder of this origin.
  await page.addInitScript(() => {
    const pick = async () => {
      const root = await navigator.storage.getDirectory();
      return root.getDirectoryHandle('stick', { create: true });
    };
    Object.assign(globalThis, { showDirectoryPicker: pick });
  });
  await openModels(app);
  await card(app, 'ready').getByTestId('export').click();
  await expect(app.part('exported')).toBeVisible();
  server.break('/models/', 'dead');
  await app.part('remove').click();
  await app.part('remove-yes').click();
  await expect(card(app, 'ready')).toHaveCount(0);
  await app.part('pick-folder').click();
  await expect(card(app, 'ready')).toHaveCount(1);
  await app.part('use-model').click();
  await expect(app.part('model-used')).toBeVisible({ timeout: 45_000 });
});

test('a pause keeps what has come, and only the rest is served later', async ({ app, server }) => {
  await openModels(app);
  server.break(shard, 'slow');
  await download(app);
  const work = app.part('work');
  await expect(work).toHaveAttribute('data-phase', 'download');
  await expect.poll(() => server.served(shard)).toBeGreaterThan(50_000);
  await app.part('pause').click();
  await expect(card(app, 'partial')).toHaveCount(1);
  server.repair();
  const before = server.served(shard);
  await app.page.reload();
  await card(app, 'partial').getByTestId('resume').click();
  await expectTwo(app);
  expect(server.log.filter(({ path, from }) => path === shard && from > 0)).toHaveLength(1);
  expect(server.served(shard) - before).toBeLessThan(before * 20);
});

test('a browser that is killed in mid-download is served only what is missing', async ({
  profile,
  server,
}) => {
  const first = await profile.start();
  const app = new App(await first.newPage(), server);
  const shard = '/models/tiny/shard-00000.bin';
  server.break(shard, 'trickle');
  await app.open('tiny');
  // Bytes of the first seconds are flushed; those of the last one may be lost.
  await expect.poll(() => server.served(shard), { timeout: 30_000 }).toBeGreaterThan(90_000);
  const closed = first.waitForEvent('close');
  process.kill(await browserOf(profile.folder), 'SIGKILL');
  await closed;
  server.repair();
  server.forget();
  const second = await profile.start();
  const again = new App(await second.newPage(), server);
  await again.openReady('tiny');
  const asked = server.log.filter(({ path }) => path.startsWith('/models/tiny/'));
  const files = asked.filter(({ path }) => !path.endsWith('manifest.json'));
  const resumed = files.find(({ path }) => path === shard);
  expect(resumed?.from).toBeGreaterThan(20_000);
  // What was whole before is not served again.
  expect(files.filter(({ path }) => path.endsWith('tokenizer.json'))).toEqual([]);
  await second.close();
});

/** The process of the browser that has this profile; its children have a type. */
async function browserOf(profile: string): Promise<number> {
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (command.includes(`--user-data-dir=${profile}`) && !command.includes('--type=')) {
      return Number(pid);
    }
  }
  throw new Error('no browser has this profile');
}

const faults: readonly (readonly [Fault, string])[] = [
  ['missing', 'NotFound'],
  ['broken', 'ServerError'],
  ['truncated', 'ShardTruncated'],
  ['web-page', 'NotAShard'],
  ['corrupt', 'ShardCorrupt'],
];
for (const [fault, name] of faults) {
  test(`${fault}: the failure is ${name}, and the download goes on later`, async ({
    app,
    server,
  }) => {
    await openModels(app);
    server.break(shard, fault);
    await download(app);
    await app.failure(name);
    await expect(card(app, 'partial')).toHaveCount(1);
    server.repair();
    server.forget();
    await card(app, 'partial').getByTestId('resume').click();
    await expectTwo(app);
    expect(server.requests(`${dirname(shard)}/tokenizer.json`)).toEqual([]);
  });
}

test('416 to a range: the file is fetched from its start', async ({ app, server }) => {
  await openModels(app);
  server.break(shard, 'cut');
  await download(app);
  await app.failure('ShardTruncated');
  server.repair();
  server.break(shard, 'no-range');
  await card(app, 'partial').getByTestId('resume').click();
  await expectTwo(app);
});

test('a full storage says what is missing; what is verified stays', async ({
  app,
  page,
  server,
}) => {
  await openModels(app);
  const devtools = await page.context().newCDPSession(page);
  const origin = new URL(server.url()).origin;
  const { usage } = await devtools.send('Storage.getUsageAndQuota', { origin });
  await devtools.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: usage + 100_000 });
  await download(app);
  await app.failure('StorageFull');
  await expect(app.part('storage-full')).toContainText(/\d (kB|MB)/);
  await expect(card(app, 'ready')).toHaveCount(1);
  await devtools.send('Storage.overrideQuotaForOrigin', { origin });
  await card(app, 'partial').getByTestId('resume').click();
  await expectTwo(app);
});

test('a chosen package that a newer edition has replaced gives way to it, with a word', async ({
  app,
  page,
  server,
}) => {
  await openModels(app);
  await download(app);
  await expectTwo(app);
  const other = card(app, 'ready').filter({ hasNot: app.part('model-used') });
  const key = (await other.getAttribute('data-key')) ?? '';
  await page.evaluate((chosen) => {
    localStorage.setItem('pediatricsgpt.model', `installed:${chosen}`);
  }, key);
  // The same files under a manifest that differs in one byte.
  const manifest = await readFile(join(fixtures, 'tiny-routed/manifest.json'), 'utf8');
  server.replace('/models/tiny-routed/manifest.json', `${manifest}\n`);
  await download(app);
  await expect(page.locator(`[data-key="${key}"]`)).toHaveCount(0);
  await expectTwo(app);
  server.break('/models/', 'dead');
  await page.goto(server.url());
  await app.ready();
  await expect(app.part('other-edition')).toBeVisible();
  await page.reload();
  await app.ready();
  await expect(app.part('other-edition')).toHaveCount(0);
});

test('an address of another site is refused by name, and nothing is asked there', async ({
  app,
}) => {
  await openModels(app);
  await app.part('model-address').fill('https://elsewhere.test/models/x/');
  await app.part('download').click();
  await app.failure('OtherOrigin');
});

test('a byte that flips in the storage of an imported model is told, and the folder mends it', async ({
  app,
  page,
}) => {
  await openModels(app);
  await app.part('folder-input').setInputFiles(join(fixtures, 'tiny-routed'));
  await expectTwo(app);
  const imported = card(app, 'ready').filter({ hasNot: app.part('model-used') });
  const key = (await imported.getAttribute('data-key')) ?? '';
  await page.evaluate(async (name) => {
    const models = await (await navigator.storage.getDirectory()).getDirectoryHandle('models');
    const shard = await (await models.getDirectoryHandle(name)).getFileHandle('shard-00000.bin');
    const file = await shard.createWritable({ keepExistingData: true });
    await file.write({ type: 'write', position: 5000, data: Uint8Array.of(1, 2, 3, 4) });
    await file.close();
  }, key);
  await imported.getByTestId('use-model').click();
  await app.page.goto(`${app.server.url()}#/`);
  await app.page.reload();
  await app.failure('ShardCorrupt');
  await app.page.goto(`${app.server.url()}#/models`);
  await app.part('folder-input').setInputFiles(join(fixtures, 'tiny-routed'));
  await expect(card(app, 'partial')).toHaveCount(0);
});

test('a second window is told, reads, and takes the model over with one button', async ({
  app,
  context,
  server,
}) => {
  await app.openReady('tiny');
  const other = new App(await context.newPage(), server);
  await other.open('tiny');
  await other.failure('OtherWindow');
  await other.part('take-over').click();
  await other.ready();
  await app.failure('OtherWindow');
  await other.ask('宝宝发烧怎么办？');
  // A window that is closed gives the model back.
  await other.page.close();
  await app.part('take-over').click();
  await app.ready();
});

test('the device computes, and its numbers are compared', async ({ app }) => {
  await openModels(app);
  await app.part('probe').click();
  await expect(app.part('probe-result')).toHaveAttribute('data-good', 'true', { timeout: 30_000 });
});

test.describe('on a phone', () => {
  test.use({ viewport: { width: 320, height: 640 } });

  test('nothing scrolls sideways, and every button is large enough for a finger', async ({
    app,
  }) => {
    await openModels(app);
    await app.expectNoSidewaysScroll();
    await app.picture('models-phone');
    for (const button of await app.part('models').getByRole('button').all()) {
      expect((await button.boundingBox())?.height).toBeGreaterThanOrEqual(44);
    }
    await app.page.goto(`${app.server.url('tiny')}#/`);
    await app.part('language').click();
    await app.page.goto(`${app.server.url('tiny')}#/models`);
    await app.expectNoSidewaysScroll();
  });
});
