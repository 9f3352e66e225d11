import fc from 'fast-check';
import { expect, test } from 'vitest';
import { dangerSigns, findDangerSigns } from './danger-signs.ts';
import { emergencyAdvice, emergencyNumber } from './emergency-advice.ts';
import { alarming, quiet } from './vignettes/everyday.ts';
import { illnessVignettes } from './vignettes/illness.ts';
import { injuryVignettes } from './vignettes/injury.ts';
import { lifeVignettes } from './vignettes/life.ts';

const vignettes = { ...lifeVignettes, ...injuryVignettes, ...illnessVignettes };

const ids = (text: string): string[] => findDangerSigns(text).map(({ id }) => id);

/** ASCII digits, letters and punctuation as a Chinese keyboard may type them. */
const fullWidth = (text: string): string =>
  text.replace(/[!-~]/g, (c) => String.fromCharCode(c.charCodeAt(0) + 0xfee0));
const fullWidthDigits = (text: string): string =>
  text.replace(/[0-9]/g, (c) => String.fromCharCode(c.charCodeAt(0) + 0xfee0));
const spaced = (text: string): string => text.replace(/(?<=[一-鿿])(?=[一-鿿])/g, ' ');

const cases = (which: 'yes' | 'no'): [string, string][] =>
  Object.entries(vignettes).flatMap(([id, each]) =>
    each[which].map((text): [string, string] => [id, text]),
  );

test('every sign has at least three positive and two negative vignettes', () => {
  expect(Object.keys(vignettes).sort()).toEqual(dangerSigns.map(({ id }) => id).sort());
  for (const { yes, no } of Object.values(vignettes)) {
    expect(yes.length).toBeGreaterThanOrEqual(3);
    expect(no.length).toBeGreaterThanOrEqual(2);
  }
});

test('the table names each sign once, in both languages, with its source', () => {
  expect(new Set(dangerSigns.map(({ id }) => id)).size).toBe(dangerSigns.length);
  for (const sign of dangerSigns) {
    expect(sign.zh).toMatch(/[一-鿿]/);
    expect(sign.en).toMatch(/^[A-Z]/);
    expect(sign.source).toMatch(/20\d\d/);
  }
});

test.each(cases('yes'))('%s is found in: %s', (id, text) => {
  expect(ids(text)).toContain(id);
});

test.each(cases('no'))('%s is not found in: %s', (id, text) => {
  expect(ids(text)).not.toContain(id);
});

test.each(alarming)('something is found in: %s', (text) => {
  expect(ids(text)).not.toEqual([]);
});

test.each(quiet)('an everyday question raises nothing: %s', (text) => {
  expect(ids(text)).toEqual([]);
});

test.each([...cases('yes'), ...cases('no')])('%s does not depend on typing: %s', (_, text) => {
  const expected = ids(text);
  expect(ids(fullWidth(text))).toEqual(expected);
  expect(ids(fullWidthDigits(text))).toEqual(expected);
  expect(ids(`  ${spaced(text)}  `)).toEqual(expected);
});

test.each([
  ['convulsion', '孩子突然驚厥'],
  ['cyanosis', '嘴脣發紫，臉發青'],
  ['young-infant-fever', '兩個月寶寶發燒'],
  ['battery-or-magnet', '吞了鈕扣電池'],
  ['non-blanching-rash', '皮疹壓之不褪色'],
  ['breathing-distress', '呼吸困難'],
])('%s is found in traditional characters: %s', (id, text) => {
  expect(ids(text)).toContain(id);
});

test('a new sentence never hides a sign that stands before it', () => {
  const calm = ['精神还好。', '没有呕吐。', '去年住过院。', '请问怎么护理？', 'He is eating well.'];
  const pairs = fc.tuple(fc.constantFrom(...cases('yes')), fc.constantFrom(...calm));
  fc.assert(
    fc.property(pairs, ([[id, text], more]) => {
      // An older child in the same text may lift the rules for young infants: age is one fact.
      expect(ids(`${text}。${more}`)).toContain(id);
    }),
    { numRuns: 400, seed: 20260101 },
  );
});

test('a present sign after a past or absent one is found', () => {
  expect(ids('去年抽过一次，今天又抽了')).toContain('convulsion');
  expect(ids('以前没抽过，刚才抽搐了两分钟')).toContain('convulsion');
  expect(ids('没有发烧，嘴唇发紫')).toContain('cyanosis');
  expect(ids('没有精神、嘴唇发紫')).toContain('cyanosis');
  expect(ids('无发热、不吃奶')).toContain('cannot-drink');
  expect(ids('no fever but her lips are blue')).toContain('cyanosis');
  expect(ids('抽搐没有停')).toContain('convulsion');
});

test('a negation at the end of a finding takes it back', () => {
  expect(ids('抽搐：无；发绀：无')).toEqual([]);
  expect(ids('颈抵抗(-)，抽搐（-）')).toEqual([]);
});

test('any text is read without an error and quickly', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 300 }), (text) => {
      findDangerSigns(text);
    }),
    { seed: 7 },
  );
  const long = '宝宝发烧三天，精神还好，没有抽搐，吃奶正常，呼吸平稳。'.repeat(200);
  const start = performance.now();
  expect(ids(long)).toEqual([]);
  expect(performance.now() - start).toBeLessThan(1000);
});

test('the emergency words say 120 in both languages, with the same steps', () => {
  expect(emergencyAdvice.zh.title).toContain(emergencyNumber);
  expect(emergencyAdvice.en.title).toContain(emergencyNumber);
  expect(emergencyAdvice.zh.steps).toHaveLength(emergencyAdvice.en.steps.length);
});
