import * as v from 'valibot';
import type { TokenizerData } from './tokenizer-json.ts';
import { bad, readMerges, readVocab, vocabFields } from './vocab.ts';

/**
 * Byte-level BPE as Llama 3, Qwen2 and Qwen3 publish it: text is cut by a regular expression, and
 * each cut becomes UTF-8 bytes, which are what merges. In the file a byte is a printable letter
 * (GPT-2's table, https://github.com/openai/gpt-2/blob/master/src/encoder.py).
 */

const MAX_ADDED = 4096;

/**
 * The cuts that we know, as they stand in the file (Oniguruma) and as they are in JavaScript. `\s`
 * is Unicode's White_Space there, without U+FEFF and with U+0085; without case, `s` is also the
 * long one, U+017F.
 */
const letters = String.raw`'(?:[sS\u017f]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\r\n\p{L}\p{N}]?\p{L}+`;
const rest = String.raw` ?[^\p{White_Space}\p{L}\p{N}]+[\r\n]*|\p{White_Space}*[\r\n]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+`;
const sourceOf = (digits: string): string =>
  String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|${digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
const SPLITS: ReadonlyMap<string, RegExp> = new Map(
  [String.raw`\p{N}`, String.raw`\p{N}{1,3}`].map((digits) => [
    sourceOf(digits),
    new RegExp(`${letters}|${digits}|${rest}`, 'gu'),
  ]),
);

const no = v.literal(false);
const nothing = v.nullish(v.literal(''));
/** Only what it does to text matters: the other fields are about offsets. */
const byteLevel = v.strictObject({
  type: v.literal('ByteLevel'),
  add_prefix_space: v.boolean(),
  trim_offsets: v.boolean(),
  use_regex: v.optional(v.boolean(), true),
});
/** Puts special tokens around a text, which we never ask for: the chat template has them. */
const around = v.looseObject({ type: v.literal('TemplateProcessing') });

export const byteLevelSchema = v.strictObject({
  version: v.literal('1.0'),
  truncation: v.null(),
  padding: v.null(),
  added_tokens: v.pipe(
    v.array(
      v.strictObject({
        id: v.pipe(v.number(), v.integer(), v.minValue(0)),
        content: v.pipe(v.string(), v.minLength(1), v.maxLength(256)),
        single_word: no,
        lstrip: no,
        rstrip: no,
        normalized: no,
        special: v.boolean(),
      }),
    ),
    v.maxLength(MAX_ADDED),
  ),
  normalizer: v.nullable(v.strictObject({ type: v.literal('NFC') })),
  pre_tokenizer: v.strictObject({
    type: v.literal('Sequence'),
    pretokenizers: v.strictTuple([
      v.strictObject({
        type: v.literal('Split'),
        pattern: v.strictObject({ Regex: v.picklist([...SPLITS.keys()]) }),
        behavior: v.literal('Isolated'),
        invert: no,
      }),
      v.strictObject({ ...byteLevel.entries, add_prefix_space: no, use_regex: no }),
    ]),
  }),
  post_processor: v.nullable(
    v.union([
      byteLevel,
      around,
      v.strictObject({
        type: v.literal('Sequence'),
        processors: v.array(v.union([byteLevel, around])),
      }),
    ]),
  ),
  decoder: byteLevel,
  model: v.strictObject({
    type: v.literal('BPE'),
    dropout: v.optional(v.null(), null),
    unk_token: v.optional(v.null(), null),
    continuing_subword_prefix: nothing,
    end_of_word_suffix: nothing,
    fuse_unk: v.optional(no, false),
    byte_fallback: v.optional(no, false),
    ignore_merges: v.optional(v.boolean(), false),
    ...vocabFields,
  }),
});

/** @throws Failure BadTokenizer */
export function readByteLevel(file: v.InferOutput<typeof byteLevelSchema>): TokenizerData {
  const { model, added_tokens: addedTokens, normalizer } = file;
  const ids = readVocab(model.vocab);
  const byteIds = byteLetters.map((letter, byte) => {
    const id = ids.get(letter);
    if (id === undefined) throw bad(`vocab: byte ${byte}, "${letter}", is missing`);
    return id;
  });
  const pieces: string[] = [];
  for (const [text, id] of ids) {
    const stranger = [...text].find((letter) => !byteOfLetter.has(letter));
    if (stranger !== undefined && !addedTokens.some(({ content }) => content === text)) {
      throw bad(`vocab: piece ${JSON.stringify(text)}: "${stranger}" stands for no byte`);
    }
    pieces[id] = text;
  }
  const added = new Map<string, number>();
  const taken = new Set<number>();
  for (const { id, content } of addedTokens) {
    if (added.has(content) || taken.has(id)) throw bad(`added_tokens: ${content} stands twice`);
    if ((ids.get(content) ?? id) !== id || (pieces[id] ?? content) !== content) {
      throw bad(`added_tokens: ${content} has id ${id}, the vocab says otherwise`);
    }
    if (id >= ids.size + addedTokens.length) throw bad(`added_tokens: ${content} has id ${id}`);
    added.set(content, id);
    taken.add(id);
    pieces[id] = content;
  }
  for (let id = 0; id < pieces.length; id++) {
    if (pieces[id] === undefined) throw bad(`no piece has id ${id}, though ${id + 1} is there`);
  }
  const split = SPLITS.get(file.pre_tokenizer.pretokenizers[0].pattern.Regex);
  if (split === undefined) throw bad('pre_tokenizer: an unknown expression');
  const merges = readMerges(model.merges, ids, new Set());
  const special = addedTokens.filter((token) => token.special);
  for (const { content } of special) ids.delete(content); // no text may become one
  return {
    pieces,
    ids,
    merges,
    byteIds,
    specialIds: special.map(({ id }) => id),
    byteLevel: { split, compose: normalizer !== null, whole: model.ignore_merges, added },
    sentencePiece: null,
  };
}

/** The letter of every byte: itself where it is printable, else one from U+0100 on. */
const byteLetters: readonly string[] = (() => {
  let other = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    return String.fromCharCode(printable ? byte : other++);
  });
})();
const byteOfLetter: ReadonlyMap<string, number> = new Map(
  byteLetters.map((letter, byte) => [letter, byte]),
);

/** Letters of a run of bytes, as pieces are written. */
export function lettersOf(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += byteLetters[byte] ?? '';
  return text;
}

/** The bytes that a piece stands for. */
export function bytesOf(piece: string): Uint8Array {
  return Uint8Array.from(piece, (letter) => byteOfLetter.get(letter) ?? 0);
}
