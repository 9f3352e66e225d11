import * as v from 'valibot';
import { mergePiece, NONE, type Pairs } from './bpe.ts';
import { finder } from './finder.ts';
import type { TokenizerData } from './tokenizer-json.ts';
import { bad, byteName, quote, readPieces } from './vocab.ts';

/**
 * BPE as SentencePiece does it for a tokenizer.model with byte fallback and without a normaliser;
 * convert writes one as the JSON below. Text is not cut before it is merged. Two neighbours merge
 * where what they spell together is a piece, the highest score first and the leftmost of equal ones
 * (bpe_model.cc of https://github.com/google/sentencepiece). A user-defined piece is taken out of
 * the text before, the longest at a place, and merges with nothing.
 */

/** More are not looked for in a text. */
const MAX_ADDED = 1 << 16;
export const SPACE = '▁';
/** Below NONE. */
const STRANGER = -2;

export const sentencePieceSchema = v.strictObject({
  version: v.literal('1.0'),
  type: v.literal('sentencepiece-bpe'),
  /** A space is put before every text that is not empty. */
  dummy_prefix: v.boolean(),
  /** Ids of pieces that no text becomes, and that have no text: the unknown one and controls. */
  special: v.pipe(v.array(v.number()), v.maxLength(MAX_ADDED)),
  /** Ids of pieces that stand for their text wherever it is. */
  user_defined: v.pipe(v.array(v.number()), v.maxLength(MAX_ADDED)),
  /** By id; those of the 256 bytes are called <0x00> to <0xFF>. */
  pieces: v.array(v.string()),
  /** By id. Only the order of them matters. */
  scores: v.array(v.pipe(v.number(), v.finite())),
});

/** Text to tokens, and what a token of an answer's beginning loses. */
export interface SentencePieceRules {
  readonly dummyPrefix: boolean;
  /** Tokens of well-formed text; in a template's own text control pieces count, too. */
  readonly encode: (text: string, inTemplate: boolean) => number[];
}

/** @throws Failure BadTokenizer */
export function readSentencePiece(file: v.InferOutput<typeof sentencePieceSchema>): TokenizerData {
  const { pieces, scores } = file;
  const ids = readPieces(pieces);
  if (scores.length !== pieces.length) {
    throw bad(`scores: ${scores.length} for ${pieces.length} pieces`);
  }
  const byteIds = Array.from({ length: 256 }, (_, byte) => {
    const id = ids.get(byteName(byte));
    if (id === undefined) throw bad(`pieces: the byte piece ${byteName(byte)} is missing`);
    return id;
  });
  for (const id of byteIds) ids.delete(pieces[id] ?? '');
  const taken = (field: 'special' | 'user_defined') =>
    file[field].map((id): [string, number] => {
      const piece = pieces[id] ?? '';
      // SentencePiece would make a control token of such a character: text may not do that here.
      if (field === 'special' && [...piece].length === 1) {
        throw bad(`special: ${quote(piece)} is a single character`);
      }
      if (!ids.delete(piece)) throw bad(`${field}: piece ${id} is none, a byte or stands twice`);
      return [piece, id];
    });
  const [special, userDefined] = [taken('special'), taken('user_defined')];
  const merge = merger(pieces, ids, scores, byteIds);
  const plain = { find: finder(userDefined), ids: new Map(userDefined) };
  const controls = { find: finder(special), ids: new Map(special) };
  const encodeText = (text: string): number[] => {
    const prefix = file.dummy_prefix && text !== '' ? SPACE : '';
    return around(plain, prefix + text.replaceAll(' ', SPACE), merge);
  };
  return {
    pieces,
    ids,
    merges: [],
    byteIds,
    specialIds: special.map(([, id]) => id),
    byteLevel: null,
    sentencePiece: {
      dummyPrefix: file.dummy_prefix,
      encode: (text, inTemplate) =>
        inTemplate ? around(controls, text, encodeText) : encodeText(text),
    },
  };
}

/** Tokens of a text: of what is found its own, of every stretch between what `encode` says. */
function around(
  { find, ids }: { find: RegExp | null; ids: ReadonlyMap<string, number> },
  text: string,
  encode: (stretch: string) => number[],
): number[] {
  if (find === null) return encode(text);
  const parts: number[][] = [];
  let end = 0;
  for (const { index, 0: found } of text.matchAll(find)) {
    parts.push(encode(text.slice(end, index)), [ids.get(found) ?? 0]);
    end = index + found.length;
  }
  parts.push(encode(text.slice(end)));
  return parts.flat();
}

/** Merges a stretch of text; a character that is no piece ends as its UTF-8 bytes. */
function merger(
  pieces: readonly string[],
  ids: ReadonlyMap<string, number>,
  scores: readonly number[],
  byteIds: readonly number[],
): (stretch: string) => number[] {
  const order = [...new Set(scores)].sort((a, b) => b - a);
  const rankOf = new Map(order.map((score, rank) => [score, rank]));
  const ranks = Int32Array.from(scores, (score) => rankOf.get(score) ?? 0); // equal ones share one
  // A character that is no piece may still be part of one: it stands as STRANGER - its code point.
  const spelt = (symbol: number) =>
    symbol < 0 ? String.fromCodePoint(STRANGER - symbol) : (pieces[symbol] ?? '');
  const together = (left: number, right: number) => ids.get(spelt(left) + spelt(right)) ?? NONE;
  const pairs: Pairs = {
    rank: (left, right) => {
      const id = together(left, right);
      return id === NONE ? NONE : (ranks[id] ?? 0);
    },
    result: together,
  };
  const symbolOf = (character: string) =>
    ids.get(character) ?? STRANGER - (character.codePointAt(0) ?? 0);
  const bytesOf = (symbol: number) =>
    Array.from(new TextEncoder().encode(spelt(symbol)), (byte) => byteIds[byte] ?? 0);
  return (stretch) =>
    mergePiece(Array.from(stretch, symbolOf), pairs).flatMap((symbol) =>
      symbol < 0 ? bytesOf(symbol) : [symbol],
    );
}
