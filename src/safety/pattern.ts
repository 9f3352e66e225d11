/** Two patterns that must both be there, within one breath of each other. */
type Pattern = RegExp | readonly [RegExp, RegExp];

export interface DangerSign {
  readonly id: string;
  readonly zh: string;
  readonly en: string;
  /** Where the sign is listed as one that needs care at once. */
  readonly source: string;
  /** Read against normalised text. */
  readonly patterns: readonly Pattern[];
  /** For what a pattern cannot say: ages and numbers. */
  readonly also?: (text: string) => boolean;
}

/** No gap reaches over the end of a clause or a negation: 嘴唇没有发紫 is not 嘴唇…发紫. */
const gap = (most: number): string => `(?:非常|不停|[^,。.!?;:\\n不没无未非]){0,${String(most)}}?`;

/** A pattern in which ~ stands for a short gap and ~~ for a long one; line breaks are layout. */
export function say(strings: TemplateStringsArray): RegExp {
  const source = strings.raw
    .join('')
    .replace(/\n */g, '')
    .replaceAll('~~', gap(10))
    .replaceAll('~', gap(4));
  return new RegExp(source, 'gu');
}
