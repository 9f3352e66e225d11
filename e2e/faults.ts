import type { Page, Worker } from '@playwright/test';
import type { App } from './app.ts';
import type { AppServer } from './server.ts';

/** What the tests of faults do to a page. */

export const QUESTION = '宝宝发烧两天，还咳嗽。';
/** With this seed the test model talks for long. */
export const LONG = 55;

/** Does something to the page as soon as an answer has its first words: a test model is fast. */
export async function inMidAnswer(
  page: Page,
  act: (words: string) => unknown,
  where = '[data-state=streaming] .text',
): Promise<void> {
  const name = `midAnswer${crypto.randomUUID().slice(0, 8)}`;
  await page.exposeFunction(name, (words: string) => void act(words));
  await page.evaluate(
    ([tell, answer]) => {
      new MutationObserver((_, observer) => {
        const text = [...document.querySelectorAll(answer)].at(-1);
        const words = text?.textContent ?? '';
        if (words.trim() === '') return;
        observer.disconnect();
        (Reflect.get(globalThis, tell) as (words: string) => void)(words);
      }).observe(document.body, { childList: true, characterData: true, subtree: true });
    },
    [name, where] as const,
  );
}

/** The words of the last answer. */
export const said = (app: App): Promise<string> =>
  app.part('turn-assistant').last().locator('.text').innerText();

/** The worker that computes. */
export function workerOf(page: Page): Worker {
  const [worker] = page.workers();
  if (worker === undefined) throw new Error('the page has no worker');
  return worker;
}

/** Lets a worker hang for good; resolves when it does. */
export async function hang(page: Page, worker = workerOf(page)): Promise<void> {
  const begun = page.waitForEvent('console', (line) => line.text() === 'hangs');
  await worker.evaluate(() => {
    // As code of its own: Chromium does not end a worker inside a task of the debugger.
    setTimeout(() => {
      console.log('hangs');
      for (;;);
    });
  });
  await begun;
}

/** Clears all that the site keeps in the browser, as its settings let a person do. */
export async function clearStorage(page: Page, server: AppServer): Promise<void> {
  const devtools = await page.context().newCDPSession(page);
  const { origin } = new URL(server.url());
  await devtools.send('Storage.clearDataForOrigin', { origin, storageTypes: 'all' });
}
