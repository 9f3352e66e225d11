import type { Child, Intake } from '../../store/records.ts';

/** What is asked before a consultation, and how the model is told of it. */

export type IntakeProblem =
  'age-out-of-range' | 'weight-out-of-range' | 'temperature-out-of-range' | 'text-long';

export const emptyIntake: Intake = {
  ageDays: null,
  weightKg: null,
  temperature: null,
  duration: '',
  symptoms: '',
  drugs: '',
  allergies: '',
  diagnosis: '',
  constraints: '',
};

/** Long enough for what is worth saying, short enough for the model's memory. */
export const LONGEST = 300;
/** A birthday of today is day 0; older than this nobody is a child. */
const OLDEST_DAYS = 18 * 366;
/** What a thermometer shows of a living person, in °C. */
export const temperatures = { min: 34, max: 43 } as const;
/** From the smallest newborn to the heaviest adolescent, in kg. */
export const weights = { min: 0.4, max: 200 } as const;

const texts = ['duration', 'symptoms', 'drugs', 'allergies', 'diagnosis', 'constraints'] as const;

const outside = (value: number, { min, max }: { min: number; max: number }): boolean =>
  !(value >= min && value <= max);

/** What is wrong with an intake; empty where nothing is. */
export function intakeProblems(intake: Intake): IntakeProblem[] {
  const { ageDays, weightKg, temperature } = intake;
  const problems: IntakeProblem[] = [];
  if (ageDays !== null && outside(ageDays, { min: 0, max: OLDEST_DAYS })) {
    problems.push('age-out-of-range');
  }
  if (weightKg !== null && outside(weightKg, weights)) problems.push('weight-out-of-range');
  if (temperature !== null && outside(temperature.celsius, temperatures)) {
    problems.push('temperature-out-of-range');
  }
  if (texts.some((name) => intake[name].length > LONGEST)) problems.push('text-long');
  return problems;
}

/**
 * What the record of a child says already. The last weight is the newest one. A birthday that is yet to
 * come means that this device's clock is wrong: then no age is better than that of a newborn.
 */
export function fromChild(child: Child | null, today: string): Intake {
  if (child === null) return emptyIntake;
  const { birthDate } = child;
  const isKnown = birthDate !== null && birthDate <= today;
  return {
    ...emptyIntake,
    ageDays: isKnown ? daysBetween(birthDate, today) : null,
    weightKg: child.weights.at(-1)?.kg ?? null,
    allergies: child.allergies,
  };
}

/** Days from one day of the calendar to another, YYYY-MM-DD; never below 0. */
export function daysBetween(from: string, to: string): number {
  const day = 24 * 60 * 60 * 1000;
  return Math.max(0, Math.round((Date.parse(to) - Date.parse(from)) / day));
}

/** An age as a form asks for it; null where nothing is filled in. */
export interface YearsAndMonths {
  readonly years: number | null;
  readonly months: number | null;
}

export function inYears(days: number | null): YearsAndMonths {
  if (days === null) return { years: null, months: null };
  const years = Math.floor(days / 365.25);
  return { years, months: Math.floor((days - years * 365.25) / 30.4375) };
}

/** An age in days; where the form shows what it showed before, the exact days of before. */
export function inDays({ years, months }: YearsAndMonths, before: number | null): number | null {
  const shown = inYears(before);
  if (years === shown.years && months === shown.months) return before;
  if (years === null && months === null) return null;
  return Math.round((years ?? 0) * 365.25 + (months ?? 0) * 30.4375);
}

/** An age as it is said: days in the first month, months in the first two years, then years. */
export function ageText(days: number): string {
  if (days < 28) return `${days}天`;
  const months = Math.floor(days / 30.4375);
  if (months < 24) return `${Math.max(1, months)}个月`;
  const years = Math.floor(days / 365.25);
  const rest = Math.floor((days - years * 365.25) / 30.4375);
  return rest >= 6 && years < 6 ? `${years}岁半` : `${years}岁`;
}

const sites: Readonly<Record<NonNullable<Intake['temperature']>['site'], string>> = {
  axillary: '腋下',
  ear: '耳温',
  rectal: '肛温',
  oral: '口温',
  forehead: '额温',
};

/** One line of facts in the model's language; empty where nothing was filled in. */
export function intakeText(intake: Intake): string {
  const { ageDays, weightKg, temperature } = intake;
  const facts: readonly (readonly [string, string])[] = [
    ['年龄', ageDays === null ? '' : ageText(ageDays)],
    ['体重', weightKg === null ? '' : `${weightKg}公斤`],
    ['体温', temperature === null ? '' : `${temperature.celsius}℃（${sites[temperature.site]}）`],
    ['病程', oneLine(intake.duration)],
    ['症状', oneLine(intake.symptoms)],
    ['已用药', oneLine(intake.drugs)],
    ['过敏', oneLine(intake.allergies)],
    ['初步诊断', oneLine(intake.diagnosis)],
    ['限制', oneLine(intake.constraints)],
  ];
  const known = facts.filter(([, value]) => value !== '');
  if (known.length === 0) return '';
  return `患儿情况：${known.map(([name, value]) => `${name}：${value}`).join('；')}。`;
}

const oneLine = (text: string): string =>
  text
    .trim()
    .replace(/\s+/g, ' ')
    .replace(/[。；;]+$/, '');
