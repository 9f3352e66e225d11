import * as v from 'valibot';
import { Failure } from '../failure.ts';
import type { Merge } from './bpe.ts';

/** What every tokenizer.json has: pieces and merges, checked; read by hand for keys such as 'constructor'. */

const MAX_PIECES = 1 << 18;
const MAX_MERGES = 1 << 19;
/** Tokens of 128 spaces and more are published. */
const MAX_PIECE_LENGTH = 256;

const object = v.custom<Record<string, unknown>>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  'not an object',
);
const piece = v.pipe(
  v.string(),
  v.minLength(1),
  v.maxLength(MAX_PIECE_LENGTH),
  v.check((text) => !/\p{Surrogate}/u.test(text), 'a lone surrogate'),
);

/** The fields that `readVocab` and `readMerges` read. */
export const vocabFields = {
  vocab: object,
  merges: v.pipe(
    v.array(v.union([v.string(), v.strictTuple([v.string(), v.string()])])),
    v.maxLength(MAX_MERGES),
  ),
};

/** Pieces with the ids 0 .. V-1, each once. @throws Failure BadTokenizer */
export function readVocab(vocab: Record<string, unknown>): Map<string, number> {
  const entries = Object.entries(vocab);
  if (entries.length > MAX_PIECES) throw bad(`vocab: ${entries.length} pieces are too many`);
  const ids = new Map<string, number>();
  const seen = new Uint8Array(entries.length);
  for (const [text, id] of entries) {
    const checked = v.safeParse(piece, text);
    if (!checked.success) throw bad(`vocab: piece ${quote(text)}: ${checked.issues[0].message}`);
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= entries.length) {
      throw bad(`vocab: piece ${quote(text)} has id ${String(id)} among ${entries.length} pieces`);
    }
    if (seen[id] === 1) throw bad(`vocab: id ${String(id)} is given twice`);
    seen[id] = 1;
    ids.set(text, id);
  }
  return ids;
}

/** Pieces by their ids, each once. @throws Failure BadTokenizer */
export function readPieces(pieces: readonly string[]): Map<string, number> {
  if (pieces.length > MAX_PIECES) throw bad(`pieces: ${pieces.length} are too many`);
  const ids = new Map<string, number>();
  for (const [id, text] of pieces.entries()) {
    const checked = v.safeParse(piece, text);
    if (!checked.success) throw bad(`pieces.${id}: ${quote(text)}: ${checked.issues[0].message}`);
    if (ids.has(text)) throw bad(`pieces.${id}: ${quote(text)} stands twice`);
    ids.set(text, id);
  }
  return ids;
}

/** How the piece of a byte is called where characters fall back to bytes. */
export function byteName(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
}

type JsonMerge = string | [string, string];

export function readMerges(
  list: readonly JsonMerge[],
  ids: ReadonlyMap<string, number>,
  reserved: ReadonlySet<number>,
): Merge[] {
  const pairs = new Set<string>();
  return list.map((entry, rank) => {
    const [a, b, ...rest] = typeof entry === 'string' ? entry.split(' ') : entry;
    if (a === undefined || b === undefined || rest.length > 0) {
      throw bad(`merges.${rank}: ${quote(String(entry))} is not a pair`);
    }
    const id = (text: string): number => {
      const found = ids.get(text);
      if (found === undefined) throw bad(`merges.${rank}: ${quote(text)} is not in the vocab`);
      if (reserved.has(found))
        throw bad(`merges.${rank}: ${quote(text)} is a special or byte piece`);
      return found;
    };
    const key = `${a} ${b}`;
    if (pairs.has(key)) throw bad(`merges.${rank}: ${quote(key)} is given twice`);
    pairs.add(key);
    return { left: id(a), right: id(b), result: id(a + b) };
  });
}

export function bad(what: string): Failure {
  return new Failure('BadTokenizer', `tokenizer.json: ${what}`);
}

/** A piece in a message, cut short. */
export function quote(text: string): string {
  return JSON.stringify(text.slice(0, 40));
}
