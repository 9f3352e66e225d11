import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expectAccessible } from './accessible.ts';
import { type App, expect, test } from './app.ts';
import { hang, inMidAnswer, LONG, QUESTION } from './faults.ts';
import { goldenOf } from './golden.ts';
import { library, mlcFolder, picked } from './mlc.ts';

/** One question to two sides, and models of another make. */

const { prompt, text: golden } = goldenOf('tiny', 'medkqa');
/** Whole models are loaded three times in a test, by a GPU in software. */
test.describe.configure({ timeout: 150_000 });

/** The comparison, with `tiny` in use: greedy answers of so many tokens. */
async function openCompare(app: App, tokens = 32): Promise<void> {
  await app.openReady('tiny');
  await app.greedy(tokens);
  await app.page.evaluate(() => (location.hash = '#/compare'));
  await expect(app.part('compare-question')).toBeVisible();
}

const side = (app: App, n: 1 | 2) => app.part(`side-${n}`);
const run = (app: App, n: 1 | 2) => app.part(`run-${n}`);
const answerOf = async (app: App, n: 1 | 2): Promise<string> =>
  (await run(app, n).locator('.text > p').allTextContents()).join('\n');

async function expectState(app: App, n: 1 | 2, state: string): Promise<void> {
  await expect(run(app, n)).toHaveAttribute('data-state', state, { timeout: 45_000 });
}

async function start(app: App, question: string): Promise<void> {
  await app.part('compare-question').fill(question);
  await app.part('compare-start').click();
}

/** Requests of the page and its workers for anything but its own files. */
function watchRequests(app: App): string[] {
  const asked: string[] = [];
  app.page.context().on('request', (request) => {
    const url = request.url();
    if (!/^(?:blob:|http:\/\/127\.0\.0\.1:\d+\/(?:assets|icons|$|\?|sw\.js|licences))/.test(url)) {
      asked.push(url);
    }
  });
  return asked;
}

test('two ways of computing answer side by side, and the chat goes on after', async ({ app }) => {
  await openCompare(app);
  await expect(side(app, 1).getByTestId('side-backend')).toHaveValue('webgpu');
  await expect(side(app, 2).getByTestId('side-backend')).toHaveValue('cpu');
  await start(app, prompt);
  await expectState(app, 1, 'done');
  await expectState(app, 2, 'done');
  expect(await answerOf(app, 1)).toBe(golden);
  expect(await answerOf(app, 2)).toBe(golden);
  for (const [n, backend] of [
    [1, 'wgsl'],
    [2, 'onnx'],
  ] as const) {
    const facts = run(app, n).getByTestId('run-facts');
    await expect(facts).toHaveAttribute('data-backend', backend);
    await expect(facts).toContainText('词元/秒');
    await expect(run(app, n)).toContainText('内容由AI生成');
  }
  const downloading = app.page.waitForEvent('download');
  await app.part('compare-json').click();
  const file = JSON.parse(await readFile(await (await downloading).path(), 'utf8')) as {
    aiGenerated: boolean;
    sides: { text: string; ran: { backend: string } }[];
  };
  expect(file.aiGenerated).toBe(true);
  expect(file.sides.map(({ ran }) => ran.backend)).toEqual(['wgsl', 'onnx']);

  await app.page.evaluate(() => (location.hash = '#/'));
  await app.ready();
  expect(await app.ask(prompt)).toBe(golden);
  // What was compared is still there, and in no consultation.
  await app.page.evaluate(() => (location.hash = '#/compare'));
  await expect(run(app, 2)).toHaveAttribute('data-state', 'done');
  await expect(app.part('history-entry')).toHaveCount(1);
});

test('a side that cannot run leaves the other its answer', async ({ app, server }) => {
  server.break('/assets/ort-wasm', 'dead');
  await openCompare(app, 16);
  await side(app, 1).getByTestId('side-backend').selectOption('cpu');
  await side(app, 2).getByTestId('side-backend').selectOption('webgpu');
  await start(app, prompt);
  await expectState(app, 1, 'failed');
  await expect(run(app, 1).getByTestId('failure')).toHaveAttribute('data-failure', 'PartMissing');
  await expectState(app, 2, 'done');
  expect(await answerOf(app, 2)).not.toBe('');
});

test('a stop ends the side that loads, leaves out the other, and another start works', async ({
  app,
}) => {
  await openCompare(app, 16);
  await start(app, prompt);
  await app.part('compare-stop').click();
  await expectState(app, 1, 'stopped');
  await expectState(app, 2, 'skipped');
  await expect(app.part('compare-stop')).toHaveCount(0);
  await side(app, 1).getByTestId('side-backend').selectOption('cpu');
  await start(app, prompt);
  await expectState(app, 2, 'done');
  await expectState(app, 1, 'done');
});

test('a side that hangs is told of; who ends it keeps its words and gets the other side', async ({
  app,
  page,
}) => {
  await page.clock.install();
  await openCompare(app);
  await app.rambling(LONG);
  const hung: Promise<void>[] = [];
  const act = () => hung.push(hang(page, page.workers().at(-1)));
  await inMidAnswer(page, act, '[data-testid=run-1][data-state=answering] .text');
  await start(app, QUESTION);
  await expect.poll(() => hung.length, { timeout: 45_000 }).toBe(1);
  await hung[0];
  await page.clock.runFor(5000);
  const kept = await run(app, 1).locator('.text').innerText();
  await page.clock.runFor(600_000);
  const note = app.part('run-stall');
  await expect(note.getByRole('alert')).toContainText(/第 1 边 · 模型已有 \d+ 秒没有任何进展/);
  await expectAccessible(app, 'a side that hangs');
  await app.part('language').click();
  await expect(note).toContainText(/Side 1 · The model has not moved for \d+ seconds/);
  await app.expectNoSidewaysScroll();
  await app.part('language').click();
  await app.part('compare-question').focus();
  await app.part('run-wait').click();
  await expect(note).toHaveCount(0);
  await expect(app.part('compare-question')).toBeFocused();
  await page.clock.runFor(1_400_000);
  await app.part('run-end').click();
  await expectState(app, 1, 'failed');
  await expect(run(app, 1).getByTestId('failure')).toHaveAttribute('data-failure', 'WorkerHung');
  expect(await run(app, 1).locator('.text').innerText()).toBe(kept);
  await expectState(app, 2, 'done');
  expect(await answerOf(app, 2)).not.toBe('');
});

test('danger signs in the question raise the alarm, on this screen too', async ({ app }) => {
  await openCompare(app);
  await app.part('compare-question').fill('宝宝八个月，刚才突然抽搐，叫不醒');
  const banner = app.part('emergency-banner');
  await expect(banner).toHaveCount(1);
  await expect(banner).toHaveAttribute('data-state', 'open');
  await app.part('compare-question').fill('宝宝咳嗽三天');
  await expect(banner).toHaveCount(0);
});

test.describe('an MLC folder', () => {
  const without = (name: string) => new Map([...mlcFolder()].filter(([key]) => key !== name));
  const cases = [
    ['without a shard', without('params_shard_1.bin'), 'missing', 'params_shard_1.bin'],
    [
      'whose manifest lies about a size',
      mlcFolder().set('params_shard_0.bin', Buffer.alloc(63)),
      'size',
      '63 ≠ 64',
    ],
    [
      'with one wrong byte',
      mlcFolder().set('params_shard_0.bin', Buffer.alloc(64)),
      'checksum',
      'params_shard_0.bin',
    ],
    [
      'whose library TVM did not make',
      mlcFolder().set('model-webgpu.wasm', library(['main'])),
      'not-tvm',
      'model-webgpu.wasm',
    ],
    [
      'that names a file outside',
      mlcFolder().set(
        'tensor-cache.json',
        Buffer.from(
          String(mlcFolder().get('tensor-cache.json')).replace('params_shard_0', '../../x'),
        ),
      ),
      'bad-name',
      '../../x.bin',
    ],
  ] as const;

  test('that is not right is refused by name, and nothing is asked for', async ({ app }) => {
    await openCompare(app);
    await side(app, 1).getByTestId('side-model').selectOption('peer');
    await app.part('compare-question').fill(prompt);
    const asked = watchRequests(app);
    const problem = app.part('peer-problem');
    for (const [what, files, kind, detail] of cases) {
      await test.step(what, async () => {
        await app.part('peer-files-input').setInputFiles(picked(files));
        await expect(problem).toHaveAttribute('data-problem', kind);
        await expect(problem).toContainText(detail);
        await expect(app.part('compare-start')).toBeDisabled();
      });
    }
    await app.part('language').click();
    await expect(problem).toContainText(/[a-z]+ [a-z]+ [a-z]+/);
    expect(asked).toEqual([]);
  });

  test('whose library computes nothing is told so, the other side answers, nothing leaves', async ({
    app,
    server,
  }) => {
    const folder = await mkdtemp(join(tmpdir(), 'mlc-'));
    for (const [name, bytes] of mlcFolder()) await writeFile(join(folder, name), bytes);
    await openCompare(app, 16);
    await app.part('peer-folder-input').setInputFiles(folder);
    await expect(app.part('peer-model')).toBeVisible();
    await expect(app.part('library-sha')).toHaveText(/^[0-9a-f]{64}$/);
    await expect(app.part('peer-model')).toContainText('不是 PediatricsGPT');
    await expectAccessible(app, 'an imported model');
    // Until here not a byte of web-llm was needed.
    expect(server.requests('/assets/web-llm')).toEqual([]);
    const asked = watchRequests(app);
    await side(app, 1).getByTestId('side-model').selectOption('peer');
    await start(app, prompt);
    await expectState(app, 1, 'failed');
    await expect(run(app, 1).getByTestId('failure')).toHaveAttribute('data-failure', 'BadLibrary');
    await expectState(app, 2, 'done');
    expect(server.requests('/assets/web-llm')).toHaveLength(1);
    expect(asked.filter((url) => !url.includes('/models/tiny/'))).toEqual([]);
    expect(server.requests('/imported-model/')).toEqual([]);
    // Nothing of it is kept, and it is gone when it is removed.
    const kept = await app.page.evaluate(() => caches.keys());
    expect(kept.filter((name) => !name.startsWith('shell-'))).toEqual([]);
    await app.part('peer-remove').click();
    await expect(app.part('peer-model')).toHaveCount(0);
    await rm(folder, { recursive: true });
  });
});

for (const [width, colorScheme] of [
  [320, 'dark'],
  [1280, 'light'],
] as const) {
  test.describe(`at ${width} px, ${colorScheme}`, () => {
    test.use({ viewport: { width, height: 740 }, colorScheme });

    test('the comparison follows WCAG 2.2 AA and scrolls down only', async ({ app }) => {
      await openCompare(app, 16);
      await side(app, 1).getByTestId('side-backend').selectOption('cpu');
      await start(app, '宝宝咳嗽三天怎么办？');
      await expectState(app, 2, 'done');
      for (const language of ['zh', 'en']) {
        await expectAccessible(app, `the comparison ${language}`);
        await app.expectNoSidewaysScroll();
        await app.picture(`compare-${width}-${language}`);
        await app.part('language').click();
      }
    });
  });
}
