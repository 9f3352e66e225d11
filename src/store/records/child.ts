import { isDay, type Child } from './shapes.ts';

/** What a form hands in; the rest of a child's record is the store's. */
export type ChildDraft = Pick<
  Child,
  'nickname' | 'birthDate' | 'sex' | 'weights' | 'allergies' | 'chronicIllness'
>;

export type ChildProblem =
  | 'nickname-empty'
  | 'nickname-long'
  | 'nickname-identity' // looks like an identity card number
  | 'nickname-phone' // looks like a telephone number
  | 'birth-no-day'
  | 'birth-future'
  | 'weight-none' // no number above 0
  | 'weight-no-day';

const NICKNAME_LENGTH = 40;

/** Digits as they were meant: full-width ones too, without what people put between them. */
function packed(text: string): string {
  return text.normalize('NFKC').replace(/[\s().+_\-‐-―·]/g, '');
}

/**
 * What a nickname must not be. Chinese identity numbers have 18 places (GB 11643-1999; the last may
 * be X) or, before 1999, 15 digits; mobile numbers have 11 and begin with 1, land lines have 7 or
 * more. So a run of seven digits or more is refused: no nickname needs one.
 */
export function identityIn(text: string): 'nickname-identity' | 'nickname-phone' | null {
  const compact = packed(text);
  if (/\d{15}|\d{17}[\dXx]/.test(compact)) return 'nickname-identity';
  return /\d{7}/.test(compact) ? 'nickname-phone' : null;
}

/** Everything that keeps this from being saved, in the order of the form; empty where it is fine. */
export function childProblems(draft: ChildDraft, today: Date): ChildProblem[] {
  const problems: ChildProblem[] = [];
  const name = draft.nickname.trim();
  if (name === '') problems.push('nickname-empty');
  if ([...name].length > NICKNAME_LENGTH) problems.push('nickname-long');
  const identity = identityIn(name);
  if (identity) problems.push(identity);
  if (draft.birthDate !== null) {
    if (!isDay(draft.birthDate)) problems.push('birth-no-day');
    else if (draft.birthDate > localDay(today)) problems.push('birth-future');
  }
  const { weights } = draft;
  if (weights.some(({ kg }) => !Number.isFinite(kg) || kg <= 0)) problems.push('weight-none');
  if (weights.some(({ date }) => !isDay(date))) problems.push('weight-no-day');
  return problems;
}

/** The day that a calendar on the wall shows, YYYY-MM-DD. */
export function localDay(time: Date): string {
  const two = (n: number): string => String(n).padStart(2, '0');
  return `${String(time.getFullYear()).padStart(4, '0')}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
}
