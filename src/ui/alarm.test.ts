import { expect, test } from 'vitest';
import { Alarm } from './alarm.svelte.ts';

const ids = (alarm: Alarm): string[] => alarm.signs.map(({ id }) => id);

test('a sign in what is being typed opens the banner, and leaves with the words', () => {
  const alarm = new Alarm(() => []);
  expect(alarm.isOpen).toBe(false);
  alarm.look('宝宝抽搐了');
  expect(ids(alarm)).toEqual(['convulsion']);
  expect(alarm.isOpen).toBe(true);
  alarm.look('宝宝没有抽搐');
  expect(alarm.isOpen).toBe(false);
});

test('an acknowledged banner stays folded until a new sign comes', () => {
  const questions: string[] = ['孩子抽搐了'];
  const alarm = new Alarm(() => questions);
  expect(alarm.isOpen).toBe(true);
  alarm.acknowledge();
  expect(alarm.isOpen).toBe(false);
  expect(ids(alarm)).toEqual(['convulsion']);
  alarm.look('刚才又抽了');
  expect(alarm.isOpen).toBe(false);
  alarm.look('刚才又抽了，嘴唇发紫');
  expect(alarm.isOpen).toBe(true);
  expect(ids(alarm).sort()).toEqual(['convulsion', 'cyanosis']);
});

test('an age in one question and a fever in the next belong together', () => {
  const questions: string[] = ['宝宝28天，鼻塞怎么办'];
  const alarm = new Alarm(() => questions);
  expect(ids(alarm)).toEqual([]);
  alarm.look('刚量了体温38.6度');
  expect(ids(alarm)).toContain('young-infant-fever');
});

test('an older child in another question does not hide a baby', () => {
  const alarm = new Alarm(() => ['大宝5岁，咳嗽一周', '宝宝两个月，发烧38.5度']);
  expect(ids(alarm)).toContain('young-infant-fever');
});

test('a new conversation forgets what was acknowledged', () => {
  const alarm = new Alarm(() => []);
  alarm.look('孩子抽搐了');
  alarm.acknowledge();
  alarm.forget();
  expect(alarm.isOpen).toBe(true);
});
