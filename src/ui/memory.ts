/**
 * Small things that this browser remembers between visits: the language, settings, a draft. Where
 * the browser gives no storage the page works the same and forgets them, which needs no words.
 */

const PREFIX = 'pediatricsgpt.';

function storage(): Storage | null {
  try {
    return globalThis.localStorage ?? null;
  } catch {
    return null; // SecurityError: storage is switched off
  }
}

/** What was remembered under this name, or null. */
export function recall(name: string): string | null {
  return storage()?.getItem(PREFIX + name) ?? null;
}

/** All names of what is remembered that begin like this. */
export function namesOf(start: string): string[] {
  const place = storage();
  return Array.from({ length: place?.length ?? 0 }, (_, i) => place?.key(i) ?? '')
    .filter((key) => key.startsWith(PREFIX + start))
    .map((key) => key.slice(PREFIX.length));
}

/** Remembers a text under a name; null forgets it. */
export function remember(name: string, value: string | null): void {
  const place = storage();
  if (!place) return;
  if (value === null) {
    place.removeItem(PREFIX + name);
    return;
  }
  try {
    place.setItem(PREFIX + name, value);
  } catch {
    place.removeItem(PREFIX + name); // full: better to know nothing than something old
  }
}

/** What was remembered as JSON; null where there is nothing that parses. */
export function recallJson(name: string): unknown {
  const text = recall(name);
  if (text === null) return null;
  try {
    return JSON.parse(text);
  } catch {
    return null; // written by another edition
  }
}
