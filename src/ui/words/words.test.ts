import { beforeEach, expect, test, vi } from 'vitest';
import { failureNames } from '../../failure.ts';
import { findDangerSigns } from '../../safety/danger-signs.ts';
import { firstEnglish, Language } from '../language.svelte.ts';
import { taskNames } from '../tasks.ts';
import { FakeStorage } from '../testing/fake-storage.ts';
import { en } from './en.ts';
import { zh } from './zh.ts';

beforeEach(() => {
  vi.stubGlobal('localStorage', new FakeStorage());
});

/** Every leaf of a tree of words: its dotted key and its text. */
function leaves(tree: object, prefix = ''): [string, string][] {
  return Object.entries(tree).flatMap(([key, value]: [string, unknown]): [string, string][] => {
    if (typeof value === 'string') return [[prefix + key, value]];
    return typeof value === 'object' && value !== null ? leaves(value, `${prefix}${key}.`) : [];
  });
}

const placeholders = (text: string): string[] => (text.match(/\{\{\w+\}\}/g) ?? []).sort();

test('what a person typed is put into a sentence as it is', () => {
  const name = '小$& {{weeks}} $1';
  const { t } = new Language(['zh-CN']);
  expect(t('records.newFor', { name })).toContain(name);
});

test('both languages have the same keys, and words at each', () => {
  const inChinese = new Map(leaves(zh));
  const inEnglish = new Map(leaves(en));
  expect([...inEnglish.keys()]).toEqual([...inChinese.keys()]);
  for (const [key, text] of [...inChinese, ...inEnglish]) expect(text.trim(), key).not.toBe('');
});

test('both languages put the same values into a sentence', () => {
  const inEnglish = new Map(leaves(en));
  for (const [key, text] of leaves(zh)) {
    expect(placeholders(inEnglish.get(key) ?? ''), key).toEqual(placeholders(text));
  }
});

test.each([...failureNames, 'Bug'] as const)('%s has words with what to do next', (name) => {
  for (const words of [zh.failure[name], en.failure[name]]) {
    expect(words.title.length).toBeGreaterThan(1);
    expect(words.todo.length).toBeGreaterThan(5);
  }
  expect(zh.failure[name].todo).toMatch(/[一-鿿]/);
  expect(en.failure[name].todo).not.toMatch(/[一-鿿]/);
});

test.each(['manifest', 'check', 'download', 'upload', 'compile', 'self-test'] as const)(
  'the load phase %s has words',
  (phase) => {
    expect(zh.load.phase[phase]).toMatch(/[一-鿿]/);
    expect(en.load.phase[phase]).toMatch(/^[A-Z]/);
  },
);

test('the standing notice says what this is, in both sizes and languages', () => {
  for (const text of [zh.notice.short, zh.notice.long]) {
    for (const word of ['研究', '不是医疗器械', '不是医生', '120', '设备|本机']) {
      expect(text.replace('也不是医生', '不是医生')).toMatch(new RegExp(word));
    }
  }
  for (const text of [en.notice.short, en.notice.long]) {
    for (const word of ['research', 'medical device', 'doctor', '120', 'this device']) {
      expect(text.toLowerCase()).toContain(word);
    }
  }
});

test('no example question raises the emergency banner', () => {
  for (const task of taskNames) {
    const { example1, example2, example3 } = zh.tasks[task];
    for (const example of [example1, example2, example3]) {
      expect(findDangerSigns(example)).toEqual([]);
    }
  }
});

test.each([
  [['zh-CN', 'en'], 'zh-CN'],
  [['zh-TW'], 'zh-CN'],
  [['en-GB', 'zh-CN'], 'en'],
  [['fr-FR', 'en'], 'en'],
  [['fr-FR'], 'zh-CN'],
  [[], 'zh-CN'],
])('a browser that asks for %j gets %s', (preferred, expected) => {
  expect(new Language(preferred, en).current).toBe(expected);
});

test('the chosen language is remembered and speaks', async () => {
  const language = new Language(['zh-CN']);
  expect(language.t('chat.send')).toBe('发送');
  await language.toggle();
  expect(language.t('chat.send')).toBe('Send');
  expect(language.t('load.bytes', { done: 1, total: 2, doneBytes: 3, totalBytes: 4 })).toBe(
    '1 / 2 MB (3 / 4 bytes)',
  );
  expect(await firstEnglish(['zh-CN'])).toBe(en);
  expect(new Language(['zh-CN'], en).current).toBe('en');
  await language.toggle();
  expect(await firstEnglish(['en'])).toBeNull();
});
