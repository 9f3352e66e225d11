/** A merge of a tokenizer: two neighbours and what they become. Its rank is its index. */
export interface Merge {
  readonly left: number;
  readonly right: number;
  readonly result: number;
}

/** What two neighbours become, and when: lower ranks merge first. */
export interface Pairs {
  /** NONE where they do not merge. Several pairs may share a rank. */
  rank(left: number, right: number): number;
  /** The token of a pair that merges. */
  result(left: number, right: number): number;
}

/** Used in place of an index, a rank or a token: there is none. */
export const NONE = -1;

/** Pairs that merge in the order of a list. */
export class Merges implements Pairs {
  readonly #ranks = new Map<number, number>();
  readonly #results: Int32Array;

  constructor(merges: readonly Merge[]) {
    this.#results = Int32Array.from(merges, (merge) => merge.result);
    merges.forEach((merge, rank) => this.#ranks.set(pairKey(merge.left, merge.right), rank));
  }

  rank(left: number, right: number): number {
    return this.#ranks.get(pairKey(left, right)) ?? NONE;
  }

  result(left: number, right: number): number {
    return this.#results[this.rank(left, right)] ?? NONE;
  }
}

/** Token ids stay below 2^20, so a pair fits a safe integer. */
function pairKey(left: number, right: number): number {
  return left * 2 ** 20 + right;
}

/**
 * Merges neighbours, lowest rank first and leftmost first among equals, until no pair is left.
 * O(n log n): a linked list of symbols and a heap of possible merges.
 */
export function mergePiece(symbols: readonly number[], merges: Pairs): number[] {
  const count = symbols.length;
  if (count < 2) return [...symbols];
  const token = Int32Array.from(symbols); // NONE once merged into the left neighbour
  const next = Int32Array.from(symbols, (_, i) => (i + 1 < count ? i + 1 : NONE));
  const previous = Int32Array.from(symbols, (_, i) => i - 1);
  const heap = new MergeHeap();

  const rankAt = (at: number): number => {
    const right = next[at] ?? NONE;
    return right === NONE ? NONE : merges.rank(token[at] ?? NONE, token[right] ?? NONE);
  };
  const offer = (at: number): void => {
    const rank = rankAt(at);
    if (rank !== NONE) heap.push(rank, at);
  };
  for (let at = 0; at < count; at++) offer(at);

  for (let top = heap.pop(); top !== undefined; top = heap.pop()) {
    const { rank, at } = top;
    // An entry is stale where either neighbour has changed since it was offered. Where the new
    // pair has the same rank, this is its turn as well.
    if (token[at] === NONE || rankAt(at) !== rank) continue;
    const right = next[at] ?? NONE;
    const after = next[right] ?? NONE;
    token[at] = merges.result(token[at] ?? NONE, token[right] ?? NONE);
    token[right] = NONE;
    next[at] = after;
    if (after !== NONE) previous[after] = at;
    const before = previous[at] ?? NONE;
    if (before !== NONE) offer(before);
    offer(at);
  }
  return [...token].filter((id) => id !== NONE);
}

/** A binary heap of possible merges, ordered by rank, then position. */
class MergeHeap {
  // rank * 2^32 + position orders as the pair does, and stays a safe integer.
  readonly #keys: number[] = [];

  push(rank: number, at: number): void {
    const keys = this.#keys;
    const key = rank * 2 ** 32 + at;
    let i = keys.length;
    keys.push(key);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      const parentKey = keys[parent] ?? 0;
      if (parentKey <= key) break;
      keys[i] = parentKey;
      i = parent;
    }
    keys[i] = key;
  }

  pop(): { rank: number; at: number } | undefined {
    const keys = this.#keys;
    const top = keys[0];
    const last = keys.pop();
    if (top === undefined || last === undefined) return undefined;
    if (keys.length > 0) this.#sink(last);
    return { rank: Math.floor(top / 2 ** 32), at: top % 2 ** 32 };
  }

  /** Puts a key in the place of the top and lets it fall to where it belongs. */
  #sink(key: number): void {
    const keys = this.#keys;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= keys.length) break;
      if ((keys[child + 1] ?? Infinity) < (keys[child] ?? Infinity)) child += 1;
      const childKey = keys[child] ?? Infinity;
      if (childKey >= key) break;
      keys[i] = childKey;
      i = child;
    }
    keys[i] = key;
  }
}
