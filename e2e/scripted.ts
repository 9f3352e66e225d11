import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Page } from '@playwright/test';
import { type AppServer, dist } from './server.ts';

/** Ways to change what the server gives out as parts of the app. */

const read = (path: string): Promise<string> =>
  readFile(fileURLToPath(new URL(path, import.meta.url)), 'utf8');

/** Where the built app has the part whose file's name fits. */
export async function assetPath(pattern: RegExp): Promise<string> {
  const names = await readdir(join(dist, 'assets'));
  const name = names.find((known) => pattern.test(known));
  if (name === undefined) throw new Error(`the built app has no ${String(pattern)}`);
  return `/assets/${name}`;
}

/** Where the built app has its worker. */
export const workerPath = (): Promise<string> => assetPath(/^worker-.*\.js$/);

/** An engine that follows a script in the place of the app's: see fixtures/scripted-worker.js. */
export async function scriptEngine(server: AppServer): Promise<void> {
  server.replace('/assets/comlink.js', await read('../node_modules/comlink/dist/esm/comlink.mjs'));
  server.replace(await workerPath(), await read('./fixtures/scripted-worker.js'));
}

/** Lets the scripted engine go on with what it holds. */
export async function letGo(page: Page): Promise<void> {
  await page.evaluate(() => {
    const script = new BroadcastChannel('script');
    script.postMessage('go');
    script.close();
  });
}

/** Serves another edition of the app, whose page says so in its title, and lets the page notice. */
export async function publishEdition(page: Page, server: AppServer): Promise<void> {
  const index = await readFile(join(dist, 'index.html'), 'utf8');
  const worker = await readFile(join(dist, 'sw.js'), 'utf8');
  server.replace('/index.html', index.replace('<title>', '<title data-edition="2">'));
  const revision = /"([0-9a-f]{32})","url":"index\.html"/.exec(worker)?.[1];
  if (revision === undefined) throw new Error('sw.js does not name the page’s revision');
  server.replace('/sw.js', worker.replace(revision, '2'.repeat(32)));
  await page.evaluate(async () => {
    await (await navigator.serviceWorker.ready).update();
  });
}
