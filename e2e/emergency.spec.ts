import { expect, test } from './app.ts';

test('a danger sign raises the banner before any model is here', async ({ app, server }) => {
  server.break('/models/', 'missing');
  await app.open('tiny');
  await expect(app.part('emergency-banner')).toHaveCount(0);
  await app.part('composer').fill('我家宝宝八个月，刚才突然抽搐，嘴唇发紫');
  await expect(app.part('emergency-banner')).toBeVisible();
  await expect(app.part('emergency-banner')).toContainText('120');
  await app.part('language').click();
  await expect(app.part('emergency-banner')).toContainText('120');
});

test('a sign that is denied raises no banner', async ({ app }) => {
  await app.open('tiny');
  await app.part('composer').fill('宝宝流鼻涕，没有抽搐，精神很好');
  await app.page.waitForTimeout(500);
  await expect(app.part('emergency-banner')).toHaveCount(0);
});
