/** Finds tokens in text, of several at one place the longest; null where there are none. */
export function finder(added: readonly (readonly [string, number])[]): RegExp | null {
  if (added.length === 0) return null;
  const longestFirst = added.map(([content]) => content).sort((a, b) => b.length - a.length);
  const escaped = longestFirst.map((content) => content.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'));
  return new RegExp(escaped.join('|'), 'gu');
}
