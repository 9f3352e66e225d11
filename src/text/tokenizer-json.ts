import * as v from 'valibot';
import type { Merge } from './bpe.ts';
import { byteLevelSchema, readByteLevel } from './byte-level.ts';
import {
  readSentencePiece,
  sentencePieceSchema,
  type SentencePieceRules,
} from './sentencepiece.ts';
import { bad, byteName, readMerges, readVocab, vocabFields } from './vocab.ts';

/**
 * The strict subsets of tokenizer.json that we read. One is exactly the normalizer, the split and
 * the decoder of `training/tokenizer.py`, BPE with byte fallback, three special tokens; one is
 * byte-level (`byte-level.ts`); one is what convert makes of a SentencePiece model
 * (`sentencepiece.ts`). A field that the subset lacks is refused: it could change what a text
 * becomes.
 */

const SPLIT_REGEX = '▁?[A-Za-z]+|[0-9]|[一-鿿]+|[^A-Za-z0-9一-鿿]';
export const SPECIAL_PIECES = ['<unk>', '<s>', '</s>'] as const;

const off = v.null();
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
    ...vocabFields,
  }),
});

/** What a tokenizer of any kind is made of. */
export interface TokenizerData {
  readonly pieces: readonly string[]; // [V], by id
  readonly ids: ReadonlyMap<string, number>; // of pieces that text may become by merging
  readonly merges: readonly Merge[]; // by rank
  readonly byteIds: readonly number[]; // [256]
  readonly specialIds: readonly number[];
  /** Null where characters that the vocabulary lacks fall back to bytes. */
  readonly byteLevel: ByteLevelRules | null;
  /** Null where text is cut before it is merged, and merges have an order of their own. */
  readonly sentencePiece: SentencePieceRules | null;
}

/** How text is cut and put into bytes where every piece is a run of bytes. */
export interface ByteLevelRules {
  readonly split: RegExp;
  /** Text becomes Unicode's composed form first. */
  readonly compose: boolean;
  /** A cut that is a piece is that piece, whatever its merges would make of it. */
  readonly whole: boolean;
  /** Tokens that stand for their text as it is: special ones in a template only. */
  readonly added: ReadonlyMap<string, number>;
}

/** Reads a tokenizer.json from outside. @throws Failure BadTokenizer that says what is wrong */
export function parseTokenizerJson(json: unknown): TokenizerData {
  if (isSentencePiece(json)) return readSentencePiece(parse(sentencePieceSchema, json));
  if (isByteLevel(json)) return readByteLevel(parse(byteLevelSchema, json));
  return readFallback(parse(schema, json));
}

function isSentencePiece(json: unknown): boolean {
  return v.is(v.object({ type: v.literal('sentencepiece-bpe') }), json);
}

function isByteLevel(json: unknown): boolean {
  const kind = v.object({ pre_tokenizer: v.object({ type: v.literal('Sequence') }) });
  return v.is(kind, json);
}

function parse<T>(schema: v.GenericSchema<unknown, T>, json: unknown): T {
  const result = v.safeParse(schema, json, { abortEarly: true });
  if (result.success) return result.output;
  const issue = result.issues[0];
  throw bad(`${v.getDotPath(issue) ?? 'the file'}: ${issue.message}`);
}

function readFallback({ model }: v.InferOutput<typeof schema>): TokenizerData {
  const { vocab, merges } = model;
  const ids = readVocab(vocab);
  SPECIAL_PIECES.forEach((content, id) => {
    if (ids.get(content) !== id) throw bad(`vocab: ${content} has to be piece ${id}`);
  });
  const byteIds = Array.from({ length: 256 }, (_, byte) => {
    const id = ids.get(byteName(byte));
    if (id === undefined) throw bad(`vocab: the byte piece ${byteName(byte)} is missing`);
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
    byteLevel: null,
    sentencePiece: null,
  };
}
