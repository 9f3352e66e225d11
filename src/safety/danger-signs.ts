import { isRuledOut } from './context.ts';
import { normalize } from './normalize.ts';
import type { DangerSign } from './pattern.ts';
import { illnessSigns } from './signs-illness.ts';
import { injurySigns } from './signs-injury.ts';
import { lifeSigns } from './signs-life.ts';

export type { DangerSign };

/**
 * Every sign, in the order in which a page shows them. A source is the guideline a sign is taken
 * after. No clinician has reviewed the table, and beyond WHO IMCI 2014 and NICE NG143 the sources
 * were named from general knowledge and not held against their texts: the page says so.
 */
export const dangerSigns: readonly DangerSign[] = [...lifeSigns, ...injurySigns, ...illnessSigns];

/** How far apart, in characters, the two halves of a sign may stand. */
const PAIR_REACH = 60;

/** Where a pattern stands in the text and the words around do not rule it out. */
function standing(pattern: RegExp, text: string): number[] {
  return [...text.matchAll(pattern)]
    .filter(({ 0: match, index }) => !isRuledOut(text, index, index + match.length))
    .map(({ index }) => index);
}

function isThere(sign: DangerSign, text: string): boolean {
  const found = sign.patterns.some((pattern) => {
    if (pattern instanceof RegExp) return standing(pattern, text).length > 0;
    const [first, second] = pattern;
    const others = standing(second, text);
    return standing(first, text).some((at) =>
      others.some((other) => Math.abs(at - other) <= PAIR_REACH),
    );
  });
  return found || (sign.also?.(text) ?? false);
}

/**
 * The danger signs that a person's words name, in the order of the table. Pure and without a
 * model; leans to warning where the words are unclear.
 */
export function findDangerSigns(text: string): DangerSign[] {
  const normal = normalize(text);
  return dangerSigns.filter((sign) => isThere(sign, normal));
}
