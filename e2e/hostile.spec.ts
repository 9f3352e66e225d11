import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Page } from '@playwright/test';
import { payloads } from '../src/ui/markdown/payloads.ts';
import { type App, expect, test } from './app.ts';
import {
  consultation as consultationOf,
  type Json,
  jsonFile,
  message,
  records,
  TIME,
} from './records.ts';
import { scriptEngine } from './scripted.ts';

/** Texts and files that mean harm: texts end as words, files are refused with a reason. */

test.describe.configure({ timeout: 120_000 });

const child = (id: string, nickname: string): Json => ({
  id,
  nickname,
  birthDate: null,
  sex: 'unknown',
  weights: [],
  allergies: nickname,
  chronicIllness: nickname,
  created: TIME,
  updated: TIME,
});

/** Whatever can hold a text holds one of these. */
function consultation(id: string, texts: readonly string[], more: Json = {}): Json {
  const messages = texts.flatMap((text, i) =>
    (['user', 'assistant'] as const).map((role, j) => {
      const n = 2 * i + j;
      const feedback = role === 'user' ? null : { mark: 'bad', reason: text };
      const parent = n === 0 ? null : `${id}-${n - 1}`;
      return { ...message(`${id}-${n}`, parent, role, text), model: text, feedback };
    }),
  );
  return { ...consultationOf(id, texts[0] ?? '', messages), ...more };
}

const go = (page: Page, screen: string) =>
  page.evaluate((hash) => (location.hash = hash), `#/${screen}`);

/** The page without a model, which none of these files needs. */
async function openWithoutModel(app: App, screen: string): Promise<void> {
  app.server.break('/models/', 'missing');
  await app.open('tiny');
  await app.failure('NotFound');
  await go(app.page, screen);
}

/** Notes whatever runs, is asked for elsewhere, or breaks the policy, from the first moment on. */
async function watchHarm(page: Page, origin: string): Promise<string[]> {
  const harm: string[] = [];
  page.on('dialog', (dialog) => {
    harm.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('request', (request) => {
    if (!request.url().startsWith(origin) && !request.url().startsWith('blob:')) {
      harm.push(`request: ${request.url()}`);
    }
  });
  await page.exposeFunction('noteHarm', (what: string) => harm.push(what));
  await page.addInitScript(() => {
    const note = (what: string) =>
      (Reflect.get(globalThis, 'noteHarm') as (w: string) => void)(what);
    globalThis.alert = () => note('alert ran');
    document.addEventListener('securitypolicyviolation', ({ effectiveDirective, blockedURI }) =>
      note(`policy: ${effectiveDirective} ${blockedURI}`),
    );
  });
  return harm;
}

/** Elements and attributes that no text may ever become, within the parts that show what was said. */
function foundHarm(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const tags =
      'img,iframe,object,embed,script,link,style,base,meta,video,audio,svg,math,a,details,template';
    const found: string[] = [];
    for (const part of document.querySelectorAll('#conversation, [data-testid=history], .card')) {
      for (const element of part.querySelectorAll(tags))
        found.push(element.outerHTML.slice(0, 120));
      for (const element of part.querySelectorAll('*')) {
        for (const { name } of element.attributes) {
          if (/^on|^src|^href$|^action$|^style$/.test(name))
            found.push(`${element.tagName} ${name}`);
        }
      }
    }
    return found;
  });
}

test('hostile texts in records, in the list and in answers end as words', async ({
  app,
  page,
  server,
}) => {
  const harm = await watchHarm(page, new URL(server.url()).origin);
  await scriptEngine(server);
  await app.openReady('tiny');
  const all = payloads.join('；').slice(0, 1900);
  const intake = { ageDays: 100, weightKg: 7, temperature: null, duration: all, symptoms: all };
  const rest = { drugs: all, allergies: all, diagnosis: all, constraints: all };
  const consultations = [
    consultation('all', payloads, {
      task: 'evidiag',
      title: '全部',
      intake: { ...intake, ...rest },
    }),
    ...payloads.map((text, i) => consultation(`c${i}`, [text], { child: `p${i}` })),
  ];
  const children = payloads.map((text, i) => child(`p${i}`, text));
  await go(page, 'records');
  await app.part('import-file').setInputFiles(jsonFile(records({ children, consultations })));
  await app.part('import-confirm').click();
  await expect(app.part('import-done')).toBeVisible();
  await expect(app.part('history-entry')).toHaveCount(payloads.length + 1);
  // As it was stored: read anew from the database.
  await go(page, '');
  await page.reload();
  await app.ready();
  await expect(app.part('history-entry')).toHaveCount(payloads.length + 1);
  await app.part('history-open').filter({ hasText: '全部' }).click();
  await expect(app.part('turn-user')).toHaveCount(payloads.length);
  const shown = await app.part('turn-user').locator('p').allTextContents();
  expect(shown).toEqual(payloads);
  await expect(app.part('intake')).toContainText('onerror');
  expect(await foundHarm(page)).toEqual([]);

  // As a model says it, word by word.
  await app.choose('medkqa');
  const isBlock = (text: string) => /```|^\||^!\[x\]\[1\]/.test(text);
  const groups = [
    payloads.filter((text) => !isBlock(text)).join('\n\n'),
    ...payloads.filter(isBlock),
  ];
  for (const text of groups) {
    await app.part('new-conversation').click();
    await app.ask(text);
    await expect(app.part('turn-assistant').last()).toContainText(/alert|evil\.example|x/);
    expect(await foundHarm(page)).toEqual([]);
  }
  // And in what is searched for.
  await app.part('history-search').fill('onerror=alert');
  await expect(app.part('history-entry').first()).toContainText('onerror');
  expect(await foundHarm(page)).toEqual([]);
  expect(harm).toEqual([]);
});

const one = consultation('one', ['问']);
const [question] = one['messages'] as Json[];
const badRecords: readonly (readonly [string, unknown, string])[] = [
  ['no JSON', '不是 JSON', 'BadImport'],
  ['an empty file', '', 'BadImport'],
  ['an array', [], 'BadImport'],
  ['another format', { ...records(), format: 'other' }, 'BadImport'],
  ['a newer version', { ...records(), version: 2 }, 'NewerImport'],
  ['an unknown field', { ...records(), more: 1 }, 'BadImport'],
  [
    'a key that means a prototype',
    JSON.stringify(records()).replace('{', '{"__proto__":{"polluted":1},'),
    'BadImport',
  ],
  [
    'a child that names its constructor',
    records({ children: [{ ...child('c', '宝'), constructor: { prototype: { polluted: 1 } } }] }),
    'BadImport',
  ],
  ['the same id twice', records({ consultations: [one, one] }), 'BadImport'],
  ['a path for an id', records({ children: [child('../../meta', '宝')] }), 'BadImport'],
  [
    'a number that is none',
    JSON.stringify(
      records({ children: [{ ...child('c', '宝'), weights: [{ kg: 77, date: '2026-01-01' }] }] }),
    ).replace('77', '1e999'),
    'BadImport',
  ],
  [
    'a time that is none',
    records({ consultations: [{ ...one, updated: '2026-13-45T99:99:99.999Z' }] }),
    'BadImport',
  ],
  [
    'an answer that is its own parent',
    records({ consultations: [{ ...one, messages: [{ ...question, parent: 'one-0' }] }] }),
    'BadImport',
  ],
  [
    'a message that is too long',
    records({ consultations: [consultation('long', ['长'.repeat(200_001)])] }),
    'BadImport',
  ],
  [
    'an identity number for a name',
    records({ children: [child('c', '110101200001011234')] }),
    'BadImport',
  ],
  ['too many children', records({ children: Array.from({ length: 5_001 }, () => 0) }), 'BadImport'],
  ['a tower of arrays', `${'['.repeat(200_000)}${']'.repeat(200_000)}`, 'BadImport'],
  [
    'a tower of arrays inside',
    JSON.stringify(records({ children: 7 })).replace(
      '7',
      `${'['.repeat(100_000)}${']'.repeat(100_000)}`,
    ),
    'BadImport',
  ],
  ['gzip', Buffer.from('1f8b0800000000000003', 'hex'), 'BadImport'],
  ['a zip archive', Buffer.from('504b030414000000080000002100', 'hex'), 'BadImport'],
  ['UTF-16', Buffer.from(JSON.stringify(records()), 'utf16le'), 'BadImport'],
];

test('files that are no good export are refused by name, and what is here stays', async ({
  app,
  page,
}, info) => {
  await openWithoutModel(app, 'records');
  await app.part('import-file').setInputFiles(jsonFile(records({ consultations: [one] })));
  await app.part('import-confirm').click();
  await expect(app.part('import-done')).toBeVisible();
  const shown = app.part('screen').getByTestId('failure');
  for (const [what, content, name] of badRecords) {
    await test.step(what, async () => {
      // The word about the last file goes with the first good one.
      await app.part('import-file').setInputFiles(jsonFile(records()));
      await expect(app.part('import-plan')).toBeVisible();
      await expect(shown).toHaveCount(0);
      await app.part('import-file').setInputFiles(jsonFile(content));
      await expect(shown).toHaveAttribute('data-failure', name);
      await expect(app.part('import-plan')).toHaveCount(0);
    });
  }
  const large = info.outputPath('large.json');
  const file = await open(large, 'w');
  await file.truncate(64 * 1024 * 1024 + 1); // a sparse file
  await file.close();
  await app.part('import-file').setInputFiles(jsonFile(records()));
  await expect(shown).toHaveCount(0);
  await app.part('import-file').setInputFiles(large);
  await expect(shown).toHaveAttribute('data-failure', 'BadImport');
  expect(await page.evaluate(() => Reflect.get({}, 'polluted') as unknown)).toBeUndefined();
  await page.reload();
  await expect(app.part('history-entry')).toHaveCount(1);
});

test('records that a newer edition has written are read at most, and the page says so', async ({
  app,
  page,
}) => {
  await openWithoutModel(app, 'records');
  await app.part('import-file').setInputFiles(jsonFile(records({ consultations: [one] })));
  await app.part('import-confirm').click();
  await expect(app.part('history-entry')).toHaveCount(1);
  const head = { schema: 99, whatever: 'that edition wrote' };
  await page.evaluate(async (value) => {
    const request = indexedDB.open('pediatricsgpt');
    await new Promise((resolve) => (request.onsuccess = resolve));
    const change = request.result.transaction('conversations', 'readwrite');
    change.objectStore('conversations').put(value, 'meta');
    await new Promise((resolve) => (change.oncomplete = resolve));
    request.result.close();
  }, head);
  await page.reload();
  await expect(app.part('history')).toContainText('更新版本');
  await expect(app.part('import-file')).toBeDisabled();
  await expect(app.part('child-add')).toHaveCount(0);
  await page.reload();
  const kept = await page.evaluate(async () => {
    const request = indexedDB.open('pediatricsgpt');
    await new Promise((resolve) => (request.onsuccess = resolve));
    const get = request.result
      .transaction('conversations')
      .objectStore('conversations')
      .get('meta');
    await new Promise((resolve) => (get.onsuccess = resolve));
    request.result.close();
    return get.result as unknown;
  });
  expect(kept).toEqual(head);
});

interface Listed {
  name: string;
  bytes: unknown;
}
interface LooseManifest extends Json {
  files: Listed[];
  tensors: { name: string; shape: unknown[]; blocks: Json[] }[];
}

/** Each makes a good manifest a bad one. */
const badManifests: Readonly<Record<string, (manifest: LooseManifest) => unknown>> = {
  'no JSON': () => '{',
  'a newer format': (m) => ({ ...m, format: 2 }),
  'an unknown field': (m) => ({ ...m, scripts: [] }),
  'a path for an id': (m) => ({ ...m, id: '../x' }),
  'a file of 2^53 bytes': (m) => file(m, { bytes: 2 ** 53 }),
  'a file of -1 bytes': (m) => file(m, { bytes: -1 }),
  'a file of half a byte': (m) => file(m, { bytes: 0.5 }),
  'a file of 1 TB': (m) => file(m, { bytes: 1e12 }),
  'a way up': (m) => file(m, { name: '../manifest.json' }),
  'a way up, encoded': (m) => file(m, { name: '..%2fmanifest.json' }),
  'an absolute path': (m) => file(m, { name: '/etc/passwd' }),
  'a backslash': (m) => file(m, { name: 'a\\b' }),
  'a zero in a name': (m) => file(m, { name: 'a\u0000.bin' }),
  'a name that is turned around': (m) => file(m, { name: 'a\u202Enib.' }),
  'capitals, which some disks do not tell apart': (m) => file(m, { name: 'SHARD-00000.BIN' }),
  'a name that is ours': (m) => file(m, { name: 'manifest.json' }),
  'a file twice': (m) => ({ ...m, files: [...m.files, m.files[0]] }),
  'no file at all': (m) => ({ ...m, files: [] }),
  'too many files': (m) => ({ ...m, files: Array.from({ length: 5000 }, () => m.files[0]) }),
  'a tensor behind the end of its file': (m) => block(m, { offset: 2 ** 40 }),
  'a tensor at a negative place': (m) => block(m, { offset: -256 }),
  'tensors that overlap': (m) => ({
    ...m,
    tensors: [...m.tensors, { ...m.tensors[0], name: 'x' }],
  }),
  'a shape that overflows': (m) => ({
    ...m,
    tensors: m.tensors.map((tensor) => ({ ...tensor, shape: [2 ** 32, 2 ** 32] })),
  }),
  'more than a manifest may have': (m) => `${JSON.stringify(m)}${' '.repeat(1 << 20)}`,
};

const file = (m: LooseManifest, change: Partial<Listed>) => ({
  ...m,
  files: m.files.map((one, i) => (i === 0 ? { ...one, ...change } : one)),
});

const block = (m: LooseManifest, change: Json) => ({
  ...m,
  tensors: m.tensors.map((tensor, i) =>
    i === 0 ? { ...tensor, blocks: tensor.blocks.map((one) => ({ ...one, ...change })) } : tensor,
  ),
});

test('manifests that mean harm are refused before anything is stored, and files that are not as listed too', async ({
  app,
  page,
}) => {
  await openWithoutModel(app, 'models');
  const tiny = fileURLToPath(new URL('./fixtures/tiny/', import.meta.url));
  const good = await readFile(join(tiny, 'manifest.json'), 'utf8');
  const shown = app.part('models').getByTestId('failure');
  const stored = () =>
    page.evaluate(async () => {
      const root = await navigator.storage.getDirectory();
      const names: string[] = [];
      for await (const name of root.keys()) names.push(name);
      return names;
    });
  const before = await stored();
  for (const [what, spoil] of Object.entries(badManifests)) {
    await test.step(what, async () => {
      const bad = spoil(JSON.parse(good) as LooseManifest);
      // A refusal of another name stands between two of this one.
      await app.part('files-input').setInputFiles(jsonFile('{}', 'other.json'));
      await expect(shown).toHaveAttribute('data-failure', 'BadFolder');
      await app.part('files-input').setInputFiles(jsonFile(bad, 'manifest.json'));
      await expect(shown).toHaveAttribute('data-failure', 'BadManifest');
    });
  }
  expect(await stored()).toEqual(before);
  await expect(app.part('model')).toHaveCount(0);

  const { files } = JSON.parse(good) as LooseManifest;
  const parts = await Promise.all(
    ['manifest.json', ...files.map(({ name }) => name)].map(async (name) =>
      jsonFile(await readFile(join(tiny, name)), name),
    ),
  );
  const spoilt = (change: (bytes: Buffer) => Buffer) =>
    parts.map((part) =>
      part.name === 'shard-00000.bin' ? { ...part, buffer: change(part.buffer) } : part,
    );
  const wrong: readonly (readonly [(bytes: Buffer) => Buffer, string])[] = [
    [(bytes) => Buffer.concat([bytes, Buffer.alloc(1)]), 'ShardTruncated'],
    [(bytes) => bytes.subarray(1), 'ShardTruncated'],
    [(bytes) => Buffer.alloc(bytes.length), 'ShardCorrupt'],
  ];
  for (const [change, name] of wrong) {
    await app.part('files-input').setInputFiles(spoilt(change));
    await expect(shown).toHaveAttribute('data-failure', name);
    await expect(page.locator('[data-testid="model"][data-state="ready"]')).toHaveCount(0);
  }
  await app.part('files-input').setInputFiles(parts);
  await expect(page.locator('[data-testid="model"][data-state="ready"]')).toHaveCount(1);
});
