/** Amounts as a person reads them. */

/** Bytes with three digits: '13.3 MB'. */
export function bytesText(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'] as const;
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : 1;
  return `${value.toFixed(digits)} ${units[unit] ?? ''}`;
}

/** Seconds as the largest fitting unit, never less than one of it. */
export function timeOf(seconds: number): { unit: 'seconds' | 'minutes' | 'hours'; n: number } {
  if (seconds < 90) return { unit: 'seconds', n: Math.max(1, Math.round(seconds)) };
  if (seconds < 5400) return { unit: 'minutes', n: Math.round(seconds / 60) };
  return { unit: 'hours', n: Math.round(seconds / 360) / 10 };
}
