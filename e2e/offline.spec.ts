import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { App, expect, test } from './app.ts';
import { goldenOf } from './golden.ts';
import { workerPath } from './scripted.ts';
import { dist } from './server.ts';

const { prompt, text } = goldenOf('tiny', 'medkqa');

async function expectGoldenAnswer(app: App): Promise<void> {
  await app.greedy(32);
  await app.choose('medkqa');
  expect(await app.ask(prompt)).toBe(text);
}

test('a browser started anew answers with the model files gone', async ({ profile, server }) => {
  const first = await profile.start();
  await new App(await first.newPage(), server).openReady('tiny');
  await first.close();
  expect(server.requests('/models/').length).toBeGreaterThan(2);

  server.break('/models/', 'missing');
  server.log.length = 0;
  const second = await profile.start();
  const app = new App(await second.newPage(), server);
  await app.openReady('tiny');
  await expectGoldenAnswer(app);
  expect(server.requests('/models/')).toEqual([]);
  await second.close();
});

/** Before the worker's own code: collects garbage right after a file was asked for. */
function collectWhileOpening(): void {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => (Reflect.get(globalThis, 'gc') as () => void)();
  const files = FileSystemFileHandle.prototype;
  const open = Reflect.get(files, 'createSyncAccessHandle') as (
    this: FileSystemFileHandle,
    options: unknown,
  ) => unknown;
  const collecting = function (this: FileSystemFileHandle, options: unknown) {
    const asked = open.call(this, options);
    port2.postMessage(null);
    return asked;
  };
  Object.assign(files, { createSyncAccessHandle: collecting });
}

test('garbage that is collected while a file is being opened keeps nobody waiting', async ({
  app,
  page,
  server,
}) => {
  const path = await workerPath();
  const worker = await readFile(join(dist, path), 'utf8');
  server.replace(path, `(${collectWhileOpening.toString()})();\n${worker}`);
  await app.openReady('tiny');
  await page.reload();
  await app.ready();
  expect(server.requests(path).length).toBeGreaterThan(0);
});

test('a flipped byte in storage costs one shard, and nobody notices', async ({
  app,
  page,
  server,
}) => {
  await app.openReady('tiny');
  server.log.length = 0;
  await page.evaluate(async () => {
    const root = await navigator.storage.getDirectory();
    const models = await root.getDirectoryHandle('models');
    for await (const name of models.keys()) {
      const shard = await (await models.getDirectoryHandle(name)).getFileHandle('shard-00000.bin');
      const bytes = new Uint8Array(await (await shard.getFile()).arrayBuffer());
      const middle = bytes.length >> 1;
      const file = await shard.createWritable({ keepExistingData: true });
      await file.write({
        type: 'write',
        position: middle,
        data: Uint8Array.of((bytes[middle] ?? 0) ^ 1),
      });
      await file.close();
    }
  });
  await page.reload();
  await app.ready();
  expect(server.requests('/models/')).toEqual(['/models/tiny/shard-00000.bin']);
  await expectGoldenAnswer(app);
  // The mended shard is kept.
  server.log.length = 0;
  await page.reload();
  await app.ready();
  expect(server.requests('/models/')).toEqual([]);
});

test('a visit that broke off goes on where it was', async ({ app, page, server }) => {
  server.break('/models/tiny/shard-00000.bin', 'dead');
  await app.open('tiny');
  await app.failure('Offline');
  const before = server.requests('/models/tiny/').filter((path) => !path.endsWith('manifest.json'));
  server.repair();
  server.log.length = 0;
  await page.reload();
  await app.ready();
  const again = server.requests('/models/tiny/');
  expect(again).toContain('/models/tiny/shard-00000.bin');
  const whole = before.filter((path) => !path.endsWith('shard-00000.bin'));
  expect(again.filter((path) => whole.includes(path))).toEqual([]);
});

test('a load can be stopped, and goes on from what is here', async ({ app, page, server }) => {
  const shard = '/models/tiny/shard-00000.bin';
  server.break(shard, 'trickle');
  await app.open('tiny');
  await expect(app.part('load-progress')).toHaveAttribute('data-phase', 'download');
  await expect.poll(() => server.served(shard)).toBeGreaterThan(0);
  await app.part('load-stop').click();
  await expect(app.part('load-stopped')).toBeVisible();
  await expect(app.part('failure')).toHaveCount(0);
  await expect(page.locator('#composer-hint')).toContainText('没有可用的模型');
  server.repair();
  server.log.length = 0;
  await app.part('load-go-on').click();
  await app.ready();
  const again = server.requests('/models/tiny/').map((path) => path.split('/').at(-1));
  expect(again).toEqual(['manifest.json', 'shard-00000.bin', 'adapter-00000.bin']);
  await page.reload();
  await app.ready();
});

test('a download shows its bytes', async ({ app, server }) => {
  server.break('/models/tiny/shard-00000.bin', 'slow');
  await app.open('tiny');
  const shown = app.part('load-progress');
  await expect(shown).toHaveAttribute('data-phase', 'download');
  const bar = shown.getByRole('progressbar');
  const value = async () => Number(await bar.getAttribute('value'));
  const first = await value();
  await expect.poll(value, { intervals: [50] }).toBeGreaterThan(first);
  const total = Number(await bar.getAttribute('max'));
  expect(total).toBeGreaterThan(200_000);
  await expect(shown).toContainText(total.toLocaleString('en-US'));
  await app.ready();
});

test('of two tabs at once one has the model, and it is fetched once', async ({
  app,
  context,
  server,
}) => {
  const other = new App(await context.newPage(), server);
  await Promise.all([app.open('tiny'), other.open('tiny')]);
  const hasModel = (tab: App) => tab.part('model-ready').isVisible();
  const isTold = (tab: App) => tab.part('take-over').isVisible();
  const ends = async () => [
    await hasModel(app),
    await isTold(app),
    await hasModel(other),
    await isTold(other),
  ];
  await expect
    .poll(async () => (await ends()).filter((seen) => seen).length, { timeout: 45_000 })
    .toBe(2);
  expect(await hasModel(app)).not.toBe(await hasModel(other));
  expect(server.requests('/models/tiny/shard-')).toEqual(['/models/tiny/shard-00000.bin']);
});
