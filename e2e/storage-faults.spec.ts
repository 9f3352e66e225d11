import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from './app.ts';
import { consultation, jsonFile, message, records } from './records.ts';
import { workerPath } from './scripted.ts';
import { dist } from './server.ts';

/**
 * Storage that fails at its n-th operation, for every n until it no longer does: what was said to be
 * kept is there afterwards, and the failure has a name.
 */

test.describe.configure({ timeout: 240_000 });

/** What the page below asks of a worker, without the app between. */
interface Round {
  readonly n: number;
  /** Whether there was an n-th operation. */
  readonly wasHit: boolean;
  readonly failure: string;
  /** Files behind a READY that are not what the manifest says. */
  readonly lies: readonly string[];
  /** How the install ended that came after it. */
  readonly again: string;
}

test('an install survives a fault at every single operation on files', async ({
  app,
  page,
  server,
}) => {
  const path = await workerPath();
  const prefix = await readFile(
    fileURLToPath(new URL('./fixtures/faulty-files.js', import.meta.url)),
    'utf8',
  );
  server.replace(path, prefix + (await readFile(join(dist, path), 'utf8')));
  server.break('/models/nano', 'missing');
  await app.open('none');
  await app.failure('NotFound');
  await page.evaluate((worker) => {
    const later = <T>(ask: (answer: (value: T) => void, fail: (error: Error) => void) => void) =>
      new Promise<T>(ask);
    /** A call as Comlink sends it. */
    const call = (to: Worker, method: string, ...values: unknown[]) =>
      later<unknown>((answer, fail) => {
        const id = crypto.randomUUID();
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = ({ data }: MessageEvent<{ id: string }>) =>
          port1.postMessage({ id: data.id, type: 'RAW', value: undefined });
        const hear = ({ data }: MessageEvent<Record<string, unknown>>) => {
          if (data['id'] !== id) return;
          to.removeEventListener('message', hear);
          if (data['type'] === 'RAW') answer(data['value']);
          else {
            const { value } = data['value'] as { value: { name: string; message: string } };
            fail(Object.assign(new Error(value.message), { name: value.name }));
          }
        };
        to.addEventListener('message', hear);
        const list: object[] = values.map((value) => ({ type: 'RAW', value }));
        list.push({ type: 'HANDLER', name: 'proxy', value: port2 });
        const message = { id, type: 'APPLY', path: ['models', method], argumentList: list };
        to.postMessage(message, [port2]);
      });
    const start = (name: string) => new Worker(worker, { type: 'module', name });
    const healthy = start('healthy');
    const faulty = start('faulty');
    const channel = new BroadcastChannel('faulty-files');
    const said = <T>(message: object) =>
      later<T>((answer) => {
        channel.onmessage = ({ data }: MessageEvent<T>) => answer(data);
        channel.postMessage(message);
      });
    const source = { kind: 'url', url: new URL('models/tiny/', location.href).href };
    const sha = async (bytes: ArrayBuffer) => {
      const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
      return [...hash].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    };
    /** What every READY claims, held against the files. */
    const lies = async () => {
      const found: string[] = [];
      const root = await navigator.storage.getDirectory();
      const models = await root.getDirectoryHandle('models', { create: true });
      for await (const name of models.keys()) {
        const folder = await models.getDirectoryHandle(name);
        const read = async (file: string) =>
          (await (await folder.getFileHandle(file)).getFile()).arrayBuffer();
        const ready = await read('READY').catch(() => null);
        if (ready === null || ready.byteLength === 0) continue;
        const manifest = JSON.parse(new TextDecoder().decode(await read('manifest.json'))) as {
          files: { name: string; sha256: string }[];
        };
        for (const file of manifest.files) {
          if ((await sha(await read(file.name))) !== file.sha256) found.push(file.name);
        }
      }
      return found;
    };
    /** A step that does not end fails by name, long before the whole test's time is up. */
    const within = async <T>(step: string, work: Promise<T>): Promise<T> => {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const end = later<never>((_, fail) => {
        timer = setTimeout(() => fail(new Error(`${step} did not end`)), 20_000);
      });
      try {
        return await Promise.race([work, end]);
      } finally {
        clearTimeout(timer);
      }
    };
    const round = async (n: number): Promise<object> => {
      await within('the start of the faulty worker', call(faulty, 'storage')); // now it listens
      await within('planting the fault', said({ at: n }));
      const install = call(faulty, 'install', source).then(
        () => 'none',
        (error: Error) => error.name,
      );
      const failure = await within(`the install with a fault at ${n}`, install);
      const { count } = await within('counting', said<{ count: number }>({}));
      await within('taking the fault away', said({ at: NaN }));
      const found = await within('reading what lies there', lies());
      const { key, state } = (await within(
        `the install after a fault at ${n}`,
        call(healthy, 'install', source),
      )) as { key: string; state: string };
      found.push(...(await within('reading what lies there then', lies())));
      await within('removing it', call(healthy, 'remove', key));
      return { n, wasHit: n < count, failure, lies: found, again: state };
    };
    Object.assign(globalThis, { round });
  }, path);
  const run = (n: number) =>
    page.evaluate(
      (at) => (Reflect.get(globalThis, 'round') as (n: number) => Promise<unknown>)(at),
      n,
    ) as Promise<Round>;
  let n = 0;
  for (; ; n += 1) {
    const result = await run(n);
    if (!result.wasHit) {
      expect(result).toMatchObject({ failure: 'none', lies: [], again: 'ready' });
      break;
    }
    expect(result, `a fault at operation ${n}`).toMatchObject({
      failure: expect.stringMatching(/^(?:StorageFull|StorageBroken|none)$/),
      lies: [],
      again: 'ready',
    });
  }
  expect(n).toBeGreaterThan(100);
});

/** From the first moment on: counts reading transactions and single writes, and lets the planted one fail. */
function plantDatabaseFault(): void {
  const KEY = 'planted.operation';
  let count = 0;
  const isPlanted = (): boolean => {
    count += 1;
    if (localStorage.getItem(KEY) !== String(count - 1)) return false;
    localStorage.setItem(KEY, 'hit');
    return true;
  };
  const spoil = (
    prototype: object,
    name: string,
    error: string,
    isMeant: (given: unknown[]) => boolean,
  ) => {
    const usual = Reflect.get(prototype, name) as (...given: unknown[]) => unknown;
    Object.assign(prototype, {
      [name](this: unknown, ...given: unknown[]) {
        if (isMeant(given) && isPlanted()) throw new DOMException('planted', error);
        return usual.apply(this, given);
      },
    });
  };
  const isReading = ([, mode]: unknown[]) => mode !== 'readwrite';
  spoil(IDBDatabase.prototype, 'transaction', 'UnknownError', isReading);
  spoil(IDBObjectStore.prototype, 'put', 'QuotaExceededError', () => true);
  spoil(IDBObjectStore.prototype, 'delete', 'QuotaExceededError', () => true);
}

const twoTurns = (id: string, title: string) =>
  consultation(id, title, [
    message('q', null, 'user', title),
    message('a', 'q', 'assistant', `答${title}`),
  ]);
const two = records({ consultations: [twoTurns('c1', '甲'), twoTurns('c2', '乙')] });

test('records survive a fault at every single operation, and the page says what went wrong', async ({
  app,
  page,
  server,
}) => {
  await page.addInitScript(plantDatabaseFault);
  server.break('/models/', 'missing');
  await app.open('tiny');
  await app.failure('NotFound');
  const trouble = page.locator('[data-testid=history] .problem[role=alert]');
  const titles = page.locator('[data-testid=history-entry] .title');
  const listed = async () => (await titles.allTextContents()).sort().join();
  const said: string[] = [];
  /** Waits until something went well or is told as a failure, and says which. */
  const went = async (good: () => Promise<boolean>): Promise<boolean> => {
    const end = async () => ((await good()) ? 'well' : (await trouble.isVisible()) ? 'badly' : '');
    await expect.poll(end, { intervals: [10, 20, 50] }).not.toBe('');
    if (await trouble.isVisible()) said.push(await trouble.innerText());
    return good();
  };
  /** A person's way; gives how far it came, by what the page said. */
  const work = async (): Promise<'nothing' | 'imported' | 'renamed'> => {
    if (!(await went(() => app.part('import-file').isEnabled()))) return 'nothing';
    await app.part('import-file').setInputFiles(jsonFile(two));
    if (!(await went(() => app.part('import-confirm').isVisible()))) return 'nothing';
    await app.part('import-confirm').click();
    if (!(await went(() => app.part('import-done').isVisible()))) return 'nothing';
    if (!(await went(async () => (await listed()) === '乙,甲'))) return 'imported';
    await app.part('history-more').first().click();
    await app.part('history-title').fill('丙');
    await app.part('history-rename').click();
    return (await went(async () => (await listed()).includes('丙'))) ? 'renamed' : 'imported';
  };
  const allowed = {
    nothing: ['', '乙,甲'],
    imported: ['乙,甲', '丙,甲', '丙,乙'],
    renamed: ['丙,甲', '丙,乙'],
  };
  await page.evaluate(() => (location.hash = '#/records'));
  let n = 0;
  for (; ; n += 1) {
    await page.evaluate(emptyDatabase);
    await page.evaluate((at) => localStorage.setItem('planted.operation', String(at)), n);
    await page.reload();
    await expect(app.part('import-file')).toBeVisible();
    said.length = 0;
    const told = await work();
    const state = await page.evaluate(() => localStorage.getItem('planted.operation'));
    if (state !== 'hit') {
      expect([told, ...said]).toEqual(['renamed']);
      break;
    }
    // Not as a mistake of the program: the storage is to blame.
    expect(said.join(), `what is said after a fault at operation ${n}`).toMatch(/存储/);
    await page.reload();
    await expect(app.part('import-file')).toBeEnabled();
    await expect(trouble).toHaveCount(0);
    const where = `${told} before a fault at operation ${n}`;
    await expect.poll(async () => allowed[told].includes(await listed()), where).toBe(true);
    expect(await page.evaluate(halfRecords), where).toEqual([]);
  }
  expect(n).toBeGreaterThan(20);
});

/** Takes every record away, behind the app's back. */
async function emptyDatabase(): Promise<void> {
  const request = indexedDB.open('pediatricsgpt');
  await new Promise((resolve) => (request.onsuccess = resolve));
  const change = request.result.transaction('conversations', 'readwrite');
  change.objectStore('conversations').clear();
  await new Promise((resolve) => (change.oncomplete = resolve));
  request.result.close();
}

/** Ids of consultations that are not whole, or not in the list, or in the list alone. */
async function halfRecords(): Promise<string[]> {
  const request = indexedDB.open('pediatricsgpt');
  await new Promise((resolve) => (request.onsuccess = resolve));
  const store = request.result.transaction('conversations').objectStore('conversations');
  const keys = store.getAllKeys();
  const values = store.getAll();
  await new Promise((resolve) => (values.onsuccess = resolve));
  request.result.close();
  const found = new Map(keys.result.map((key, i) => [key as string, values.result[i] as unknown]));
  const half: string[] = [];
  for (const [key, value] of found) {
    const [kind, id] = key.split(':');
    const other = kind === 'consult' ? `index:${id}` : kind === 'index' ? `consult:${id}` : key;
    if (!found.has(other)) half.push(key);
    const { plain } = value as { plain?: { messages?: unknown[] } };
    if (kind === 'consult' && (plain?.messages ?? []).length === 0) half.push(key);
  }
  return half;
}

test('a full database refuses an import whole; what is here stays, and it can come in later', async ({
  app,
  page,
  server,
}) => {
  server.break('/models/', 'missing');
  await app.open('tiny');
  await app.failure('NotFound');
  await page.evaluate(() => (location.hash = '#/records'));
  const bring = async (content: object): Promise<void> => {
    await app.part('import-file').setInputFiles(jsonFile(content));
    await app.part('import-confirm').click();
  };
  const devtools = await page.context().newCDPSession(page);
  const origin = new URL(server.url()).origin;
  const { usage } = await devtools.send('Storage.getUsageAndQuota', { origin });
  // Before the first record: Chromium remembers for a while how much room there was.
  await devtools.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: usage + 200_000 });
  await bring(two);
  await expect(app.part('history-entry')).toHaveCount(2);
  // Random, so that it cannot be packed.
  const texts = Array.from({ length: 40 }, () => randomBytes(50_000).toString('base64'));
  const consultations = texts.map((text, i) =>
    consultation(`r${i}`, '随机', [message('q', null, 'user', text)]),
  );
  await bring(records({ consultations }));
  await expect(app.part('screen').getByTestId('failure')).toHaveAttribute(
    'data-failure',
    'StorageFull',
  );
  await expect(app.part('history-entry')).toHaveCount(2);
  await page.reload();
  await expect(app.part('history-entry')).toHaveCount(2);
  expect(await page.evaluate(halfRecords)).toEqual([]);
  await devtools.send('Storage.overrideQuotaForOrigin', { origin });
  await bring(records({ consultations }));
  await expect(app.part('import-done')).toBeVisible();
  await expect(app.part('history-entry')).toHaveCount(42);
});
