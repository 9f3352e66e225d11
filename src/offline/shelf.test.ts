import { expect, test } from 'vitest';
import { securityHeaders } from './headers.ts';
import { type Entry, Shelf } from './shelf.ts';
import { FakeCaches, FakeSite } from './testing.ts';

const scope = 'http://localhost/';
const entries: readonly Entry[] = [
  { url: 'index.html', revision: 'a' },
  { url: 'assets/index-1.js', revision: null },
  { url: 'assets/ort-wasm-simd-1.wasm', revision: null },
  { url: 'assets/onnx-1.js', revision: null },
  { url: 'assets/web-llm-1.js', revision: null },
];
const files = Object.fromEntries(entries.map(({ url }) => [url, `the text of ${url}`]));

function setUp(list = entries, site = new FakeSite(files), caches = new FakeCaches()) {
  const host = { caches: caches as unknown as CacheStorage, fetch: site.fetch, scope };
  return { shelf: new Shelf(list, host), site, caches };
}

const page = (url = scope): Request =>
  Object.defineProperty(new Request(url), 'mode', { value: 'navigate' });

test('the shell is kept whole, and what it does without comes later', async () => {
  const { shelf, site } = setUp();
  await shelf.fill();
  expect(site.asked.toSorted()).toEqual(['assets/index-1.js', 'index.html']);
  expect(await shelf.state()).toMatchObject({
    shell: { kept: 2, total: 2 },
    later: { kept: 0, total: 2 },
  });
  await shelf.fillLater();
  expect((await shelf.state()).later).toEqual({ kept: 2, total: 2 });
  await shelf.fillLater();
  expect(site.asked).toHaveLength(4);
});

test('what few people need is kept from its first use', async () => {
  const { shelf, site } = setUp();
  await shelf.fill();
  await shelf.fillLater();
  expect(site.asked).not.toContain('assets/web-llm-1.js');
  await shelf.answer(new Request(`${scope}assets/web-llm-1.js`));
  site.files.clear();
  const answer = await shelf.answer(new Request(`${scope}assets/web-llm-1.js`));
  expect(await answer?.text()).toBe('the text of assets/web-llm-1.js');
});

test('a shell that does not come whole is not kept at all', async () => {
  const { shelf, site, caches } = setUp();
  site.files.delete('assets/index-1.js');
  await expect(shelf.fill()).rejects.toThrow('assets/index-1.js: status 404');
  expect(caches.stores.size).toBe(0);
});

test('a web page in the place of a script is not kept', async () => {
  const { shelf } = setUp();
  const one: FakeSite['fetch'] = () =>
    Promise.resolve(new Response('<html>', { headers: { 'content-type': 'text/html' } }));
  const wrong = new Shelf(entries, {
    caches: new FakeCaches() as unknown as CacheStorage,
    fetch: one,
    scope,
  });
  await expect(wrong.fill()).rejects.toThrow('text/html');
  await shelf.fill();
});

test('every answer carries the headers, with the dead server too', async () => {
  const { shelf, site } = setUp();
  await shelf.fill();
  site.files.clear();
  const answer = await shelf.answer(page(`${scope}?model=tiny`));
  expect(await answer?.text()).toBe('the text of index.html');
  for (const [name, value] of Object.entries(securityHeaders)) {
    expect(answer?.headers.get(name)).toBe(value);
  }
  const script = await shelf.answer(new Request(`${scope}assets/index-1.js`));
  expect(script?.headers.get('content-security-policy')).toContain("default-src 'none'");
});

test.each([
  ['a path that the app does not have', new Request(`${scope}nothing.js`)],
  ['a question that changes something', new Request(`${scope}index.html`, { method: 'POST' })],
  ['another site', new Request('http://elsewhere/index.html')],
  ['a page below the app', page(`${scope}sub/`)],
])('%s is left to the network', async (_, request) => {
  const { shelf } = setUp();
  await shelf.fill();
  expect(await shelf.answer(request)).toBeNull();
});

test('what is needed before its time is fetched once and kept', async () => {
  const { shelf, site } = setUp();
  await shelf.fill();
  const ask = () => shelf.answer(new Request(`${scope}assets/onnx-1.js`));
  expect(await (await ask())?.text()).toBe('the text of assets/onnx-1.js');
  await ask();
  expect(site.asked.filter((path) => path === 'assets/onnx-1.js')).toHaveLength(1);
});

test('a new edition takes over what did not change, and the one before it stays', async () => {
  const { shelf: first, site, caches } = setUp();
  await first.fill();
  await first.fillLater();
  await first.tidy();
  site.files.set('assets/index-2.js', 'newer');
  site.asked.length = 0;
  const newer: readonly Entry[] = [
    { url: 'index.html', revision: 'b' },
    { url: 'assets/index-2.js', revision: null },
    ...entries.slice(2),
  ];
  const { shelf: second } = setUp(newer, site, caches);
  await second.fill();
  await second.fillLater();
  expect(site.asked.toSorted()).toEqual(['assets/index-2.js', 'index.html']);
  await second.tidy();
  // A page that still runs the first edition finds its parts.
  const part = await second.answer(new Request(`${scope}assets/index-1.js`));
  expect(await part?.text()).toBe('the text of assets/index-1.js');
  site.files.set('assets/index-3.js', 'newest');
  const third = setUp(
    [
      { url: 'index.html', revision: 'c' },
      { url: 'assets/index-3.js', revision: null },
    ],
    site,
    caches,
  ).shelf;
  await third.fill();
  await third.tidy();
  expect(caches.stores.size).toBe(2);
  expect(await third.answer(new Request(`${scope}assets/index-1.js`))).toBeNull();
});

test('caches of others are nobody’s business', async () => {
  const { shelf, caches } = setUp();
  await caches.open('something-else');
  await shelf.fill();
  await shelf.tidy();
  expect([...caches.stores.keys()]).toContain('something-else');
});
