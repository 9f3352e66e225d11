import * as v from 'valibot';
import { Failure } from '../failure.ts';
import type { Merge } from './bpe.ts';

/**
 * The strict subset of tokenizer.json that we read: exactly the normalizer, the split and the
 * decoder of `training/tokenizer.py`, BPE with byte fallback, three special tokens. A field that
 * the subset lacks is refused: it could change what a text becomes.
 */

const MAX_PIECES = 1 << 18;
const MAX_MERGES = 1 << 19;
const MAX_PIECE_LENGTH = 256;
const SPLIT_REGEX = '▁?[A-Za-z]+|[0-9]|[一-鿿]+|[^A-Za-z0-9一-鿿]';
export const SPECIAL_PIECES = ['<unk>', '<s>', '</s>'] as const;

const off = v.null();
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

const addedToken = (content: string, id: number) =>
  v.strictObject({
    id: v.literal(id),
    content: v.literal(content),
    single_word: v.literal(false),
    lstrip: v.literal(false),
    rstrip: v.literal(false),
    normalized: v.literal(false),
    special: v.literal(true),
  });

const schema = v.strictObject({
  version: v.literal('1.0'),
  truncation: off,
  padding: off,
  added_tokens: v.strictTuple(SPECIAL_PIECES.map((content, id) => addedToken(content, id))),
  normalizer: v.strictObject({
    type: v.literal('Replace'),
    pattern: v.strictObject({ String: v.literal(' ') }),
    content: v.literal('▁'),
  }),
  pre_tokenizer: v.strictObject({
    type: v.literal('Split'),
    pattern: v.strictObject({ Regex: v.literal(SPLIT_REGEX) }),
    behavior: v.literal('Isolated'),
    invert: v.literal(false),
  }),
  post_processor: off,
  decoder: v.strictObject({
    type: v.literal('Sequence'),
    decoders: v.strictTuple([
      v.strictObject({
        type: v.literal('Replace'),
        pattern: v.strictObject({ String: v.literal('▁') }),
        content: v.literal(' '),
      }),
      v.strictObject({ type: v.literal('ByteFallback') }),
      v.strictObject({ type: v.literal('Fuse') }),
    ]),
  }),
  model: v.strictObject({
    type: v.literal('BPE'),
    dropout: off,
    unk_token: v.literal('<unk>'),
    continuing_subword_prefix: off,
    end_of_word_suffix: off,
    fuse_unk: v.literal(false),
    byte_fallback: v.literal(true),
    ignore_merges: v.literal(false),
    // Read by hand below: valibot's record passes over keys such as 'constructor'.
    vocab: object,
    merges: v.pipe(
      v.array(v.union([v.string(), v.strictTuple([v.string(), v.string()])])),
      v.maxLength(MAX_MERGES),
    ),
  }),
});

export interface TokenizerData {
  readonly pieces: readonly string[]; // [V], by id
  readonly ids: ReadonlyMap<string, number>;
  readonly merges: readonly Merge[]; // by rank
  readonly byteIds: readonly number[]; // [256]
  readonly specialIds: readonly number[];
}

/** Reads a tokenizer.json from outside. @throws Failure BadTokenizer that says what is wrong */
export function parseTokenizerJson(json: unknown): TokenizerData {
  const result = v.safeParse(schema, json, { abortEarly: true });
  if (!result.success) {
    const issue = result.issues[0];
    throw bad(`${v.getDotPath(issue) ?? 'the file'}: ${issue.message}`);
  }
  const { vocab, merges } = result.output.model;
  const ids = readVocab(vocab);
  SPECIAL_PIECES.forEach((content, id) => {
    if (ids.get(content) !== id) throw bad(`vocab: ${content} has to be piece ${id}`);
  });
  const byteIds = Array.from({ length: 256 }, (_, byte) => {
    const name = `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
    const id = ids.get(name);
    if (id === undefined) throw bad(`vocab: the byte piece ${name} is missing`);
    return id;
  });
  const reserved = new Set([...byteIds, ...SPECIAL_PIECES.keys()]);
  const pieces: string[] = [];
  for (const [text, id] of ids) pieces[id] = text;
  return {
    pieces,
    ids,
    merges: readMerges(merges, ids, reserved),
    byteIds,
    specialIds: [...SPECIAL_PIECES.keys()],
  };
}

/** Pieces with the ids 0 .. V-1, each once. */
function readVocab(vocab: Record<string, unknown>): Map<string, number> {
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

type JsonMerge = string | [string, string];

function readMerges(
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

function bad(what: string): Failure {
  return new Failure('BadTokenizer', `tokenizer.json: ${what}`);
}

/** A piece in a message, cut short. */
function quote(text: string): string {
  return JSON.stringify(text.slice(0, 40));
}
