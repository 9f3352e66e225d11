import { describe, expect, test } from 'vitest';
import { markdownOf } from './markdown.ts';
import type { Child } from './shapes.ts';
import { RecordStore } from './store.ts';
import { consultation, memory, message, NOW } from './testing.ts';
import { aiLabel, exportText, limits, planImport } from './transfer.ts';

const child: Child = {
  id: 'k1',
  nickname: '豆豆',
  birthDate: '2024-02-29',
  sex: 'female',
  weights: [{ kg: 12.4, date: '2026-11-01' }],
  allergies: '青霉素',
  chronicIllness: '',
  created: NOW,
  updated: NOW,
  deleted: null,
};
const generator = { app: 'PediatricsGPT Web', version: '0.1.0' };
const answer = message('a1', 'q1', '多喝水。', { model: 'nano@2', feedback: null });
const said = [message('q1', null, '宝宝发烧38.5度'), answer];
const one = consultation('c1', { child: 'k1', messages: said });
const nothing = { children: [], consultations: [] };

type Json = Record<string, unknown>;
const asJson = (): Json => JSON.parse(exportText([child], [one], generator, new Date(NOW))) as Json;
const bytesOf = (value: unknown): Uint8Array =>
  new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value));

test('an export carries the label, versions and all data, and comes back the same', async () => {
  const text = exportText([child], [one], generator, new Date(NOW));
  expect(text).toContain(aiLabel.zh);
  expect(text).toContain(aiLabel.en);
  expect(JSON.parse(text)).toMatchObject({
    aiGenerated: true,
    version: 1,
    generator: { ...generator, models: ['nano@2'] },
  });
  const plan = await planImport(bytesOf(text), nothing);
  expect(plan).toMatchObject({ added: 2, same: 0, beside: 0 });
  const store = new RecordStore(memory());
  await store.add(plan.children, plan.consultations);
  const { children, consultations } = await store.everything();
  expect(children).toEqual([child]);
  expect(consultations).toEqual([one]);
  expect(exportText(children, consultations, generator, new Date(NOW))).toBe(text);
});

test('the dry run tells new from same from conflicting, and a second import adds nothing', async () => {
  const store = new RecordStore(memory());
  await store.add([{ ...child, nickname: '小豆' }], [one]);
  await store.rename('c1', '改过的');
  const file = bytesOf(exportText([child], [one, { ...one, id: 'c2' }], generator, new Date(NOW)));
  const first = await planImport(file, await store.everything());
  expect(first).toMatchObject({ added: 1, same: 0, beside: 2 });
  await store.add(first.children, first.consultations);
  const now = await store.everything();
  expect(now.children.map(({ nickname }) => nickname).sort()).toEqual(['小豆', '豆豆']);
  expect(now.consultations).toHaveLength(3);
  // What is here stays as it is, and what came belongs to the child that came with it.
  expect(now.consultations.find(({ id }) => id === 'c1')?.title).toBe('改过的');
  const other = now.children.find(({ nickname }) => nickname === '豆豆')?.id;
  expect(now.consultations.filter((c) => c.child === other)).toHaveLength(2);
  const again = await planImport(file, now);
  expect(again.children).toEqual([]);
  expect(again.consultations.map(({ id }) => id)).not.toContain('c1');
});

test('what is here exactly so is not taken again', async () => {
  const plan = await planImport(bytesOf(asJson()), { children: [child], consultations: [one] });
  expect(plan).toMatchObject({ added: 0, same: 2, beside: 0, children: [], consultations: [] });
});

test('a consultation of a child that nobody has belongs to none', async () => {
  const file = { ...asJson(), children: [] };
  expect((await planImport(bytesOf(file), nothing)).consultations[0]?.child).toBeNull();
});

test('a newer version is refused by its own name, before its content is looked at', async () => {
  const newer = { format: 'pediatricsgpt-records', version: 2, anything: [] };
  await expect(planImport(bytesOf(newer), nothing)).rejects.toMatchObject({ name: 'NewerImport' });
});

describe('a hostile or broken file is refused, and says where', () => {
  const first = (change: (c: Json) => Json): Json => {
    const json = asJson();
    const [c] = json['consultations'] as Json[];
    return { ...json, consultations: [change(c ?? {})] };
  };
  const kid = (change: Json): Json => ({ ...asJson(), children: [{ ...child, ...change }] });
  const long = '长'.repeat(limits.text + 1);
  test.each<[string, unknown, RegExp]>([
    ['no JSON', '{"format": ', /no JSON/],
    ['not UTF-8', 'latin', /no JSON/],
    ['another document', { format: 'chatgpt', version: 1 }, /does not say/],
    ['nothing', null, /does not say/],
    ['nested too deep', `${'['.repeat(200_000)}${']'.repeat(200_000)}`, /no JSON|does not say/],
    ['without the label', { ...asJson(), label: undefined }, /label/],
    ['not said to be AI-generated', { ...asJson(), aiGenerated: false }, /aiGenerated/],
    ['an unknown field', { ...asJson(), script: 'x' }, /script/],
    ['an unknown field inside', first((c) => ({ ...c, html: '<b>' })), /html/],
    ['a prototype', first((c) => ({ ...c, ['__proto__']: { x: 1 } })), /__proto__/],
    ['a nickname with digits', kid({ deleted: undefined, nickname: '13800138000' }), /nickname/],
    ['an id that is a path', first((c) => ({ ...c, id: '../meta' })), /id/],
    ['an id with a colon', first((c) => ({ ...c, id: 'consult:x' })), /id/],
    ['no such day', kid({ deleted: undefined, birthDate: '2025-02-30' }), /birthDate/],
    ['a negative weight', kid({ deleted: undefined, weights: [{ kg: -1, date: NOW }] }), /weights/],
    ['a long name', kid({ deleted: undefined, nickname: 'x'.repeat(2001) }), /nickname/],
    ['a long text', first((c) => ({ ...c, messages: [message('q1', null, long)] })), /characters/],
    ['a cycle', first((c) => ({ ...c, messages: [message('q1', 'q1', 'x')] })), /parent/],
    ['a lost leaf', first((c) => ({ ...c, leaf: 'zz' })), /selected/],
    ['a time that is none', first((c) => ({ ...c, created: 'now' })), /created/],
    ['the same twice', { ...asJson(), consultations: [one, one] }, /twice/],
    [
      'the same child twice',
      { ...asJson(), children: [1, 2].map(() => ({ ...child, deleted: undefined })) },
      /twice/,
    ],
    [
      'too many children',
      { ...asJson(), children: new Array(limits.children + 1).fill(0) },
      /children/,
    ],
  ])('%s', async (name, value, where) => {
    const bytes = name === 'not UTF-8' ? Uint8Array.of(0x7b, 0xff, 0xfe) : bytesOf(value);
    const refused = planImport(bytes, nothing);
    await expect(refused).rejects.toMatchObject({ name: 'BadImport' });
    await expect(refused).rejects.toThrow(where);
  });

  test('a file that is too large is refused before it is parsed', async () => {
    const bytes = new Uint8Array(limits.fileBytes + 1);
    await expect(planImport(bytes, nothing)).rejects.toMatchObject({ name: 'BadImport' });
  });
});

const words = {
  child: '儿童',
  task: '任务',
  begun: '开始',
  question: '问',
  answer: '答',
  notFinished: '没有答完',
};

test('Markdown has the branch that is shown, between two labels', () => {
  const messages = [
    ...said,
    message('a2', 'q1', '另一个回答', { state: 'stopped', model: 'nano@2' }),
  ];
  const text = markdownOf({ ...one, messages, leaf: 'a2' }, child, words, '知识问答');
  expect(text.startsWith(`**${aiLabel.zh}**\n\n**${aiLabel.en}**\n\n# 宝宝发烧`)).toBe(true);
  expect(text.trimEnd().endsWith(aiLabel.en + '**')).toBe(true);
  expect(text).toContain('- 儿童: 豆豆');
  expect(text).toContain('> 另一个回答');
  expect(text).toContain('没有答完');
  expect(text).not.toContain('多喝水');
});

test('what was typed makes no Markdown and no HTML', () => {
  const evil =
    '# 标题\n![图](http://x/y.png) <img src=x onerror=alert(1)> [链](javascript:1)\n---\n- 项';
  const messages = [message('q1', null, evil)];
  const text = markdownOf(
    consultation('c1', { title: '<b>\n# x', messages, leaf: 'q1' }),
    null,
    words,
    'x',
  );
  expect(text).toContain('> \\# 标题');
  expect(text).toContain('\\!\\[图\\](http://x/y.png) \\<img src=x onerror=alert(1)\\>');
  expect(text).toContain('> ---');
  expect(text).toContain('# \\<b\\> \\# x');
  expect(text).not.toMatch(/[^\\]</);
});
