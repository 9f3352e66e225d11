import { expect, test } from './app.ts';
import { goldenOf } from './golden.ts';

test('the language switches the whole page', async ({ app, page }) => {
  await app.openReady('tiny');
  await expect(page.locator('html')).toHaveAttribute('lang', /^zh/);
  const notice = await app.part('notice').innerText();
  expect(notice).toMatch(/[一-鿿]/);
  await app.picture('start-zh');
  await app.part('language').click();
  await expect(page.locator('html')).toHaveAttribute('lang', /^en/);
  await expect(app.part('notice')).not.toHaveText(notice);
  await expect(app.part('notice')).toHaveText(/[a-z]+ [a-z]+/);
  await app.picture('start-en');
});

test.describe('on a phone', () => {
  test.use({ viewport: { width: 360, height: 740 } });

  test('nothing scrolls sideways', async ({ app }) => {
    const { prompt } = goldenOf('tiny', 'medkqa');
    await app.open('tiny');
    await app.expectNoSidewaysScroll();
    await app.ready();
    await app.greedy(16);
    await app.choose('medkqa');
    await app.ask(prompt);
    await app.expectNoSidewaysScroll();
    await app.picture('phone-answer');
    await app.part('settings').click();
    await app.expectNoSidewaysScroll();
    await app.page.keyboard.press('Escape');
    await app.part('composer').fill('宝宝八个月，刚才突然抽搐');
    await expect(app.part('emergency-banner')).toBeVisible();
    await app.picture('phone-emergency');
    await app.part('composer').fill(`抽搐${'长'.repeat(300)}${'W'.repeat(300)}`);
    await app.expectNoSidewaysScroll();
    await app.part('language').click();
    await app.expectNoSidewaysScroll();
  });

  test('a failure fits the screen', async ({ app, server }) => {
    server.break('/models/', 'missing');
    await app.open('tiny');
    await app.failure('NotFound');
    await app.expectNoSidewaysScroll();
    await app.picture('phone-failure');
  });
});
