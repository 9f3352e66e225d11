import type { Consultation } from './shapes.ts';

/**
 * Search over titles and texts by pairs of characters: Chinese needs no dictionary for that, and what
 * is found is the same on every device. It lives in memory only.
 */

export interface Hit {
  readonly id: string;
  /** Some words around the first place that was found, on one line. */
  readonly excerpt: string;
}

const AROUND = 18;

/** Full width and half width, capitals and small letters are the same to a search. */
function folded(text: string): string {
  return text.normalize('NFKC').toLowerCase();
}

function pairsOf(text: string): Set<string> {
  const characters = [...text];
  const pairs = new Set<string>();
  for (let i = 0; i + 1 < characters.length; i += 1) {
    pairs.add(`${characters[i] ?? ''}${characters[i + 1] ?? ''}`);
  }
  return pairs;
}

interface Page {
  readonly text: string;
  readonly pairs: ReadonlySet<string>;
}

export class SearchIndex {
  readonly #pages = new Map<string, Page>();
  readonly #byPair = new Map<string, Set<string>>();

  /** Takes a consultation in, in the place of an older version of it. */
  put({ id, title, messages }: Pick<Consultation, 'id' | 'title' | 'messages'>): void {
    this.drop(id);
    const text = folded([title, ...messages.map((message) => message.text)].join('\n'));
    const pairs = pairsOf(text);
    this.#pages.set(id, { text, pairs });
    for (const pair of pairs) {
      const found = this.#byPair.get(pair);
      if (found) found.add(id);
      else this.#byPair.set(pair, new Set([id]));
    }
  }

  drop(id: string): void {
    for (const pair of this.#pages.get(id)?.pairs ?? []) {
      const ids = this.#byPair.get(pair);
      ids?.delete(id);
      if (ids?.size === 0) this.#byPair.delete(pair);
    }
    this.#pages.delete(id);
  }

  /** The consultations that hold every word of the query, in the order in which they came in. */
  find(query: string): Hit[] {
    const words = folded(query)
      .split(/\s+/)
      .filter((word) => word !== '');
    if (words.length === 0) return [];
    let left: string[] = [...this.#pages.keys()];
    for (const word of words) {
      // Pairs first: they leave few texts to look through.
      for (const pair of pairsOf(word)) {
        const ids = this.#byPair.get(pair);
        left = ids ? left.filter((id) => ids.has(id)) : [];
      }
      left = left.filter((id) => this.#pages.get(id)?.text.includes(word));
    }
    return left.map((id) => ({ id, excerpt: excerptOf(this.#pages.get(id)?.text ?? '', words) }));
  }
}

function excerptOf(text: string, words: readonly string[]): string {
  const at = text.indexOf(words[0] ?? '');
  const from = Math.max(0, at - AROUND);
  const to = Math.min(text.length, at + (words[0]?.length ?? 0) + AROUND);
  const halves = /^[\uDC00-\uDFFF]|[\uD800-\uDBFF]$/g; // of a character that the cut went through
  const cut = text.slice(from, to).replace(halves, '').replace(/\s+/g, ' ').trim();
  return `${from > 0 ? '…' : ''}${cut}${to < text.length ? '…' : ''}`;
}
