import { expectAccessible } from './accessible.ts';
import { expect, test } from './app.ts';

// WCAG 2.2 AA on every screen, in both languages and themes, on a desk and on a phone.

const screens = ['consult', 'records', 'models', 'device', 'licences'] as const;
const places = {
  desk: { colorScheme: 'light', viewport: { width: 1280, height: 800 } },
  phone: { colorScheme: 'dark', viewport: { width: 360, height: 740 } },
} as const;

for (const [size, place] of Object.entries(places)) {
  test.describe(`on a ${size}, ${place.colorScheme}`, () => {
    test.use({ ...place, contextOptions: { reducedMotion: 'reduce' } });
    test.describe.configure({ timeout: 120_000 });

    test('every screen follows WCAG 2.2 AA', async ({ app, page }) => {
      await app.openReady('tiny');
      await app.greedy(16);
      await app.ask('宝宝咳嗽三天');
      for (const language of ['zh', 'en']) {
        for (const screen of screens) {
          await page.evaluate((name) => {
            location.hash = `#/${name === 'consult' ? '' : name}`;
          }, screen);
          const here = app.part(screen === 'consult' ? 'composer' : 'screen');
          await expect(here).toBeVisible();
          // A list that is still on its way is a long page without anything to focus on.
          if (screen === 'licences')
            await expect(app.part('licences').locator('li')).not.toHaveCount(0);
          await expectAccessible(app, `${screen} ${language}`);
          await app.expectNoSidewaysScroll();
          await app.picture(`${screen}-${size}-${language}`);
        }
        await app.part('settings').click();
        await expectAccessible(app, `settings ${language}`);
        await page.keyboard.press('Escape');
        await app.part('about').click();
        await expectAccessible(app, `about ${language}`);
        await page.keyboard.press('Escape');
        await app.part('language').click();
      }
    });
  });
}
