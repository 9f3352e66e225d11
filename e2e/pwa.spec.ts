import { App, expect, test } from './app.ts';
import { goldenOf } from './golden.ts';
import { publishEdition } from './scripted.ts';

// The browser is started several times, and a model loaded each time.
test.describe.configure({ timeout: 120_000 });

const { prompt, text } = goldenOf('tiny', 'medkqa');

test('after the first visit a browser started anew answers with the server dead', async ({
  profile,
  server,
}) => {
  const first = await profile.start();
  const visit = new App(await first.newPage(), server);
  await visit.openReady('tiny');
  await visit.stored();
  await first.close();

  server.break('/', 'dead');
  server.log.length = 0;
  const second = await profile.start();
  const app = new App(await second.newPage(), server);
  await app.openReady('tiny');
  await app.greedy(32);
  expect(await app.ask(prompt)).toBe(text);
  // The way without a GPU too: its files were stored, although nobody has needed them yet.
  await app.openReady('tiny', 'cpu');
  expect(await app.backend()).toBe('onnx');
  // Chromium asks for the page beside its service worker, and for a newer one of these.
  const asked = server.log.map(({ path }) => path);
  expect(asked.filter((path) => path !== '/sw.js' && path !== '/')).toEqual([]);
  await second.close();
});

test('on a plain host the page is isolated after one reload, and every answer has the policy', async ({
  app,
  page,
}) => {
  let loads = 0;
  page.on('load', () => (loads += 1));
  await app.openReady('tiny');
  expect(await page.evaluate(() => globalThis.crossOriginIsolated)).toBe(true);
  expect(loads).toBe(2);
  const policies = await page.evaluate(async () => {
    const scripts = performance.getEntriesByType('resource').map(({ name }) => name);
    const own = scripts.filter((name) => /assets\/.*\.js$/.test(name));
    const answers = await Promise.all([location.href, ...own].map((url) => fetch(url)));
    return answers.map((answer) => answer.headers.get('content-security-policy'));
  });
  expect(policies.length).toBeGreaterThan(1);
  for (const policy of policies) expect(policy).toContain("default-src 'none'");
});

test('nothing leaves the page or its worker', async ({ app, page }) => {
  await app.openReady('tiny');
  const tried = await page.evaluate(async () => {
    const failed = async (work: () => unknown): Promise<boolean> => {
      try {
        await work();
        return false;
      } catch {
        return true;
      }
    };
    const violations: string[] = [];
    document.addEventListener('securitypolicyviolation', ({ effectiveDirective }) =>
      violations.push(effectiveDirective),
    );
    const image = new Image();
    image.src = 'https://elsewhere.example/pixel.png';
    navigator.sendBeacon('https://elsewhere.example/beacon', 'text');
    const results = {
      fetch: await failed(() => fetch('https://elsewhere.example/')),
      socket: await failed(() => {
        const socket = new WebSocket('wss://elsewhere.example/');
        return new Promise((resolve, reject) => {
          socket.onopen = resolve;
          socket.onerror = () => reject(new Error('refused'));
        });
      }),
      peers: 'RTCPeerConnection' in globalThis || 'webkitRTCPeerConnection' in globalThis,
      html: await failed(() => {
        document.createElement('div').innerHTML = '<b>x</b>';
      }),
      code: await failed(() => (0, eval)('1')),
      worker: await failed(() => new Worker('data:text/javascript,1')),
    };
    await new Promise((resolve) => setTimeout(resolve, 200));
    return { ...results, violations };
  });
  expect(tried).toMatchObject({
    fetch: true,
    socket: true,
    peers: false,
    html: true,
    code: true,
    worker: true,
  });
  expect(tried.violations).toEqual(expect.arrayContaining(['img-src', 'connect-src']));
});

test('a new edition waits for the answer, then takes over when the person agrees', async ({
  app,
  page,
  server,
}) => {
  await app.openReady('tiny');
  await app.stored();
  await publishEdition(page, server);
  await expect(app.part('update')).toBeVisible();
  // The page that runs is still the old one, and answers.
  await app.greedy(32);
  expect(await app.ask(prompt)).toBe(text);
  await expect(app.part('update-now')).toBeEnabled();
  await app.part('update-now').click();
  await expect(page.locator('title[data-edition="2"]')).toHaveCount(1);
  await app.ready();
  // Nothing that was said is lost.
  expect(await app.answer()).toBe(text);
  await expect(app.part('update')).toHaveCount(0);
});

test('the page about this device finds everything in order', async ({ app, page }) => {
  await app.openReady('tiny');
  await app.stored();
  await app.part('go-device').click();
  const checks = ['secure', 'worker', 'shell', 'later', 'model', 'isolated', 'peers', 'policy'];
  for (const name of checks) await expect(app.part(`check-${name}`)).toHaveClass(/good/);
  await app.part('measure-speed').click();
  await expect(app.part('speed')).toHaveText(/\d/);
  await app.part('go-licences').click();
  await expect(app.part('licences')).toContainText('onnxruntime-web');
  await page.goBack();
  await expect(app.part('self-check')).toBeVisible();
});
