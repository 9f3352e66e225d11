import type { Page } from '@playwright/test';
import { type App, expect, test } from './app.ts';

/** Whoever has no mouse, needs large letters, or wants it on paper. */

const screens = ['records', 'models', 'compare', 'device', 'licences'] as const;
/** More stops than any screen has. */
const MOST_STOPS = 80;

/** What the keyboard is at: its name for tests, or where it leads. */
const focused = (page: Page): Promise<string> =>
  page.evaluate(() => {
    const at = document.activeElement;
    return at?.getAttribute('data-testid') ?? at?.getAttribute('href') ?? '';
  });

/** Presses Tab until the keyboard is at something. */
async function tabTo(page: Page, name: string): Promise<void> {
  const stops: string[] = [];
  for (let i = 0; i < MOST_STOPS; i++) {
    await page.keyboard.press('Tab');
    const here = await focused(page);
    if (here === name) return;
    stops.push(here);
  }
  throw new Error(`Tab never comes to ${name}, only to ${[...new Set(stops)].join(', ')}`);
}

test('everything is reached and done by the keyboard', async ({ app, page }) => {
  await app.openReady('tiny');
  await app.greedy(16);
  await tabTo(page, 'composer');
  await page.keyboard.type('宝宝咳嗽三天');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('没有发烧');
  await page.keyboard.press('Enter');
  await app.answered();
  await expect(app.part('turn-user')).toContainText('没有发烧');
  expect(await focused(page)).toBe('composer');

  await tabTo(page, 'settings');
  await page.keyboard.press('Enter');
  await expect(app.part('setting-temperature')).toBeVisible();
  await page.keyboard.press('Escape');
  await expect(app.part('setting-temperature')).toBeHidden();
  expect(await focused(page)).toBe('settings');

  for (const screen of screens) {
    await tabTo(page, `go-${screen}`);
    await page.keyboard.press('Enter');
    await expect(app.part('screen')).toBeVisible();
    await expect(page).toHaveURL(new RegExp(`#/${screen}$`));
    // What is shown anew is where the keyboard, and a reading voice, go on.
    await expect.poll(() => insideOf(page)).toBe(true);
  }
});

/** Whether the keyboard is in the screen that is shown. */
const insideOf = (page: Page): Promise<boolean> =>
  page.evaluate(() => document.querySelector('main')?.contains(document.activeElement) ?? false);

async function goTo(app: App, screen: string): Promise<void> {
  await app.page.evaluate((name) => (location.hash = `#/${name}`), screen);
  await expect(app.part(screen === '' ? 'composer' : 'screen')).toBeVisible();
}

for (const { title, viewport, letters } of [
  { title: '320 px', viewport: { width: 320, height: 640 }, letters: 100 },
  // What a window of 1280 by 800 is at a zoom of 200 %.
  { title: 'a desk zoomed to 200 %', viewport: { width: 640, height: 400 }, letters: 100 },
  { title: 'a phone with letters of 200 %', viewport: { width: 412, height: 800 }, letters: 200 },
]) {
  test.describe(`at ${title}`, () => {
    test.use({ viewport });

    test('nothing scrolls sideways or is cut off', async ({ app, page, server }) => {
      server.break('/models/', 'missing');
      await app.open('tiny');
      await app.failure('NotFound');
      await page.evaluate((percent) => {
        document.documentElement.style.fontSize = `${percent}%`;
      }, letters);
      for (const language of ['zh', 'en']) {
        for (const screen of ['', ...screens]) {
          await goTo(app, screen);
          expect(await cutOff(page), `${screen} ${language}`).toEqual([]);
          await app.expectNoSidewaysScroll();
        }
        await app.part('language').click();
      }
    });
  });
}

/** Buttons, links and fields whose words stand outside of the window, or are wider than themselves. */
const cutOff = (page: Page): Promise<string[]> =>
  page.evaluate(() => {
    const found: string[] = [];
    for (const part of document.querySelectorAll<HTMLElement>(
      'button, a, select, input, h1, h2, h3, p',
    )) {
      if (part.closest('.visually-hidden') !== null || part.offsetParent === null) continue;
      const { left, right } = part.getBoundingClientRect();
      if (left < -1 || right > document.documentElement.clientWidth + 1) {
        found.push(`outside: ${part.innerText}`);
      }
      const hides = getComputedStyle(part).overflowX === 'hidden';
      const means = getComputedStyle(part).textOverflow === 'ellipsis';
      if (hides && !means && part.scrollWidth > part.clientWidth + 1) {
        found.push(`cut: ${part.innerText}`);
      }
    }
    return found;
  });

test('on paper stand the words and the label, and no buttons', async ({ app, page }) => {
  await app.openReady('tiny');
  await app.greedy(16);
  await app.ask('宝宝咳嗽三天');
  await page.emulateMedia({ media: 'print' });
  await expect(app.part('turn-user')).toBeVisible();
  await expect(app.part('turn-assistant')).toBeVisible();
  await expect(page.getByText(/AI 生成|AI生成/).first()).toBeVisible();
  await expect(app.part('composer')).toBeHidden();
  await expect(page.locator('button:visible')).toHaveCount(0);
  await app.picture('print-zh');
});
