import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Child } from '../../store/records.ts';
import {
  ageText,
  daysBetween,
  emptyIntake,
  fromChild,
  inDays,
  intakeProblems,
  intakeText,
  inYears,
  LONGEST,
} from './intake.ts';

test('what is filled in becomes one line, what is not stays unsaid', () => {
  expect(intakeText(emptyIntake)).toBe('');
  expect(
    intakeText({
      ...emptyIntake,
      ageDays: 250,
      weightKg: 8.5,
      temperature: { celsius: 38.5, site: 'axillary' },
      duration: '2天',
      symptoms: '咳嗽、\n流涕。',
    }),
  ).toBe(
    '患儿情况：年龄：8个月；体重：8.5公斤；体温：38.5℃（腋下）；病程：2天；症状：咳嗽、 流涕。',
  );
});

test.each([
  [0, '0天'],
  [27, '27天'],
  [28, '1个月'],
  [365, '11个月'],
  [366, '12个月'],
  [730, '23个月'],
  [731, '2岁'],
  [1000, '2岁半'],
  [2000, '5岁'],
  [2300, '6岁'],
  [6000, '16岁'],
])('%d days are %s', (days, text) => expect(ageText(days)).toBe(text));

test('an age never gets smaller as days go by', () => {
  const months = (text: string): number => {
    const value = Number.parseInt(text, 10);
    if (text.endsWith('天')) return value / 30.4375;
    return text.endsWith('个月') ? value : value * 12 + (text.endsWith('半') ? 6 : 0);
  };
  for (let days = 1; days < 6600; days += 1) {
    expect(months(ageText(days))).toBeGreaterThanOrEqual(months(ageText(days - 1)));
  }
});

test.each([
  ['2024-02-29', '2024-03-01', 1],
  ['2023-02-28', '2023-03-01', 1],
  ['2026-11-21', '2026-11-21', 0],
  ['2026-11-22', '2026-11-21', 0], // a clock that is wrong
])('from %s to %s are %d days', (from, to, days) => expect(daysBetween(from, to)).toBe(days));

test('the record of a child fills in what it knows', () => {
  const child: Child = {
    id: 'a',
    nickname: '小宝',
    birthDate: '2026-01-21',
    sex: 'female',
    weights: [
      { kg: 7, date: '2026-06-01' },
      { kg: 9, date: '2026-11-01' },
    ],
    allergies: '青霉素',
    chronicIllness: '',
    created: '2026-11-01T00:00:00.000Z',
    updated: '2026-11-01T00:00:00.000Z',
    deleted: null,
  };
  expect(fromChild(child, '2026-11-21')).toEqual({
    ...emptyIntake,
    ageDays: 304,
    weightKg: 9,
    allergies: '青霉素',
  });
  expect(intakeText(fromChild(child, '2026-11-21'))).not.toContain('小宝');
  expect(fromChild(null, '2026-11-21')).toEqual(emptyIntake);
  // A clock that is wrong makes nobody a newborn.
  expect(fromChild(child, '2001-01-01').ageDays).toBeNull();
});

test('values that no child has are named', () => {
  expect(intakeProblems(emptyIntake)).toEqual([]);
  expect(
    intakeProblems({
      ...emptyIntake,
      ageDays: -1,
      weightKg: 0,
      temperature: { celsius: 385, site: 'ear' },
      symptoms: '长'.repeat(LONGEST + 1),
    }),
  ).toEqual(['age-out-of-range', 'weight-out-of-range', 'temperature-out-of-range', 'text-long']);
  expect(intakeProblems({ ...emptyIntake, weightKg: Number.NaN })).toEqual(['weight-out-of-range']);
});

test('whatever is typed stays in one line', () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (symptoms, drugs) => {
      expect(intakeText({ ...emptyIntake, symptoms, drugs })).not.toMatch(/[\n\r]/);
    }),
  );
});

test.each([
  [{ years: 0, months: 0 }, null, 0], // a newborn, typed
  [{ years: null, months: 8 }, null, 244],
  [{ years: null, months: null }, null, null],
  [{ years: 1, months: 1 }, 400, 400], // untouched: the exact days
  [{ years: 1, months: 2 }, 400, 426], // changed by a month
  [{ years: null, months: null }, 400, null], // emptied
])('%j with %j before is %j days', (form, before, days) => {
  expect(inDays(form, before)).toBe(days);
});

test('what a form shows of an age is that age', () => {
  for (let days = 0; days < 6600; days += 1) expect(inDays(inYears(days), days)).toBe(days);
});
