import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  type BrowserContext,
  expect,
  test as base,
  type Locator,
  type Page,
} from '@playwright/test';
import { AppServer, type Backend } from './server.ts';

/** The page as a person sees it. Nothing here knows how it is made. */

export type Task = 'medkqa' | 'evidiag' | 'trerecom';
export const tasks: readonly Task[] = ['medkqa', 'evidiag', 'trerecom'];

export interface Counts {
  readonly decodeSteps: number;
  readonly decodeStepsAfterStop: number;
}

declare global {
  /** Set by the page for these tests: what the worker counts. */
  var pediatricsgpt: { counts(): Promise<Counts> } | undefined;
  /** Set by `watchText`: takes what stood on the page when U+FFFD did. */
  function reportBrokenText(text: string): Promise<void>;
}

/** Loading compiles every shader and runs the known-answer test, in software. */
const LOAD_TIMEOUT = 45_000;

const screenshots = fileURLToPath(new URL('../docs/screenshots/', import.meta.url));

export class App {
  readonly page: Page;
  readonly server: AppServer;

  constructor(page: Page, server: AppServer) {
    this.page = page;
    this.server = server;
  }

  /** Whoever opens the page has agreed to its terms before. */
  async agree(): Promise<void> {
    await this.page.addInitScript(() => {
      const given = { version: 1, role: 'research', date: '2026-11-01T00:00:00.000Z' };
      localStorage.setItem('pediatricsgpt.consent', JSON.stringify(given));
    });
  }

  async open(model?: string, backend?: Backend): Promise<void> {
    await this.agree();
    await this.page.goto(this.server.url(model, backend));
    // The first visit to this host is loaded once more: see src/offline/register.ts.
    await this.page.waitForFunction(() => globalThis.crossOriginIsolated);
  }

  async openReady(model?: string, backend?: Backend): Promise<void> {
    await this.open(model, backend);
    await this.ready();
  }

  /** What computes now, as the page says it. */
  async backend(): Promise<string> {
    return (await this.part('backend').getAttribute('data-backend')) ?? '';
  }

  async ready(): Promise<void> {
    await expect(this.part('model-ready')).toBeVisible({ timeout: LOAD_TIMEOUT });
  }

  /** Waits until the service worker has everything that the app needs without a network. */
  async stored(): Promise<void> {
    const kept = () =>
      this.page.evaluate(async () => {
        const names = (await caches.keys()).filter((name) => name.startsWith('shell-'));
        const urls = await Promise.all(
          names.map(async (name) => (await (await caches.open(name)).keys()).map(({ url }) => url)),
        );
        const needed = [/\/ort-wasm[^/]*\.wasm$/, /\/onnx-runtime-/, /\/onnx-(?!runtime-)/];
        return needed.every((part) => urls.flat().some((url) => part.test(url)));
      });
    await expect.poll(kept).toBe(true);
  }

  part(name: string): Locator {
    return this.page.getByTestId(name);
  }

  async choose(task: Task): Promise<void> {
    await this.part(`task-${task}`).click();
  }

  /** Plain argmax, as the golden files were made. */
  async greedy(maxTokens: number): Promise<void> {
    await this.part('settings').click();
    await this.part('setting-temperature').fill('0');
    await this.part('setting-penalty').fill('1');
    await this.part('setting-max-tokens').fill(String(maxTokens));
    await this.part('setting-max-tokens').press('Tab');
    await expect(this.part('setting-max-tokens')).toHaveValue(String(maxTokens));
    await this.page.keyboard.press('Escape');
    await expect(this.part('setting-max-tokens')).toBeHidden();
  }

  /** Far from what the model would say, and long, but the same words for the same seed. */
  async rambling(seed: number): Promise<void> {
    await this.part('settings').click();
    const values = { temperature: 1.5, 'top-p': 1, 'top-k': 0, penalty: 1, 'max-tokens': 480 };
    for (const [name, value] of Object.entries(values)) {
      await this.part(`setting-${name}`).fill(String(value));
    }
    await this.page.locator('input[name=seed]').last().check();
    await this.part('setting-seed').fill(String(seed));
    await this.part('setting-seed').press('Tab');
    await this.page.keyboard.press('Escape');
    await expect(this.part('setting-seed')).toBeHidden();
  }

  async send(question: string): Promise<void> {
    await this.part('composer').fill(question);
    await this.part('send').click();
  }

  /** Asks and waits for the end of the answer; gives its text. */
  async ask(question: string): Promise<string> {
    const before = await this.part('turn-assistant').count();
    await this.send(question);
    await expect(this.part('turn-assistant')).toHaveCount(before + 1);
    await this.answered();
    return this.answer();
  }

  async answered(state = 'done'): Promise<void> {
    const last = this.part('turn-assistant').last();
    await expect(last).toHaveAttribute('data-state', state, { timeout: 40_000 });
  }

  /** The paragraphs of the last answer, as they stand on the page. */
  async answer(): Promise<string> {
    const paragraphs = this.part('turn-assistant').last().locator('.text > p');
    return (await paragraphs.allTextContents()).join('\n');
  }

  async counts(): Promise<Counts> {
    return this.page.evaluate(() => {
      const counts = globalThis.pediatricsgpt?.counts();
      if (counts === undefined) throw new Error('the page exposes no counts');
      return counts;
    });
  }

  /** The message of a failure, once it is the one expected. */
  async failure(name: string): Promise<string> {
    const shown = this.part('failure').first();
    await expect(shown).toHaveAttribute('data-failure', name, { timeout: LOAD_TIMEOUT });
    await expect(shown).toBeVisible();
    return (await shown.innerText()).trim();
  }

  /** Pictures for the documentation are made on demand only: SCREENSHOTS=1. */
  async picture(name: string): Promise<void> {
    if (process.env['SCREENSHOTS'] !== '1') return;
    await this.page.screenshot({ path: join(screenshots, `${name}.png`) });
  }

  async expectNoSidewaysScroll(): Promise<void> {
    const { content, window } = await this.page.evaluate(() => ({
      content: document.documentElement.scrollWidth,
      window: document.documentElement.clientWidth,
    }));
    expect(content).toBeLessThanOrEqual(window);
  }
}

/** A text as paragraphs, the way the page sets it: runs of line breaks are one, edges have none. */
export function asParagraphs(text: string): string {
  const lines = text.split(/\n+/).map((line) => line.trim());
  return lines.filter((line) => line !== '').join('\n');
}

/** Looks at every change of the page for U+FFFD, from the first moment on, over reloads too. */
async function watchText(page: Page): Promise<readonly string[]> {
  const found: string[] = [];
  await page.exposeFunction('reportBrokenText', (text: string) => found.push(text));
  await page.addInitScript(() => {
    new MutationObserver(() => {
      const text = document.body?.textContent ?? '';
      if (text.includes('\uFFFD')) void globalThis.reportBrokenText(text);
    }).observe(document, { childList: true, characterData: true, subtree: true });
  });
  return found;
}

/** A browser's profile on disk: what is started on it finds what was kept there before. */
interface Profile {
  readonly folder: string;
  start(): Promise<BrowserContext>;
}

/** A server and a page for each test; a page that throws, or shows U+FFFD, fails its test. */
export const test = base.extend<{
  isolated: boolean;
  server: AppServer;
  app: App;
  profile: Profile;
}>({
  isolated: [false, { option: true }],
  server: async ({ isolated }, use) => {
    const server = await AppServer.start({ isolated });
    await use(server);
    await server.close();
  },
  profile: async ({ playwright }, use, info) => {
    const folder = await mkdtemp(join(tmpdir(), 'pediatricsgpt-'));
    const { launchOptions } = info.project.use;
    await use({
      folder,
      start: () => playwright.chromium.launchPersistentContext(folder, launchOptions),
    });
    await rm(folder, { recursive: true, force: true });
  },
  app: async ({ page, server }, use) => {
    const errors: string[] = [];
    page.on('pageerror', (error) => errors.push(error.message));
    const broken = await watchText(page);
    await use(new App(page, server));
    expect(errors).toEqual([]);
    expect(broken).toEqual([]);
  },
});

export { expect };
