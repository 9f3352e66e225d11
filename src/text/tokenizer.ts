import { Failure } from '../failure.ts';
import { Merges, mergePiece } from './bpe.ts';
import { bytesOf, lettersOf } from './byte-level.ts';
import { finder } from './finder.ts';
import type { SentencePieceRules } from './sentencepiece.ts';
import { TokenStream } from './stream.ts';
import { parseTokenizerJson, type ByteLevelRules, type TokenizerData } from './tokenizer-json.ts';

/** Nothing larger is parsed: room for a vocabulary of some 260,000 pieces. */
export const MAX_TOKENIZER_BYTES = 32 << 20;

/**
 * Cuts text before merging: a run of letters (with the space before it), one digit, a run of
 * Chinese characters, or any other single character. The same words as in tokenizer.json.
 */
const SPLIT = /▁?[A-Za-z]+|[0-9]|[一-鿿]+|[^A-Za-z0-9一-鿿]/gu;

/** Split pieces that were merged before. The longest and the oldest are not kept. */
const CACHE_ENTRIES = 8192;
const CACHE_PIECE_LENGTH = 32;

/**
 * Byte-pair encoding with byte fallback, or of bytes alone, as the `tokenizers` library does it for
 * the strict subsets of tokenizer.json that `tokenizer-json.ts` reads, or as SentencePiece does it.
 * Text never becomes a special token.
 */
export class Tokenizer {
  /** Number of pieces, V. */
  readonly vocab: number;
  readonly #pieces: readonly string[];
  readonly #ids: ReadonlyMap<string, number>;
  readonly #merges: Merges;
  readonly #byteIds: readonly number[]; // [256]
  readonly #byteOf: ReadonlyMap<number, Uint8Array>;
  readonly #special: ReadonlySet<number>;
  readonly #byteLevel: ByteLevelRules | null;
  readonly #sentencePiece: SentencePieceRules | null;
  /** Finds added tokens: in what a person types those that are not special, in a template all. */
  readonly #added: { readonly inText: RegExp | null; readonly inTemplate: RegExp | null };
  readonly #meanings: (string | Uint8Array | undefined)[] = [];
  readonly #cache = new Map<string, readonly number[]>();

  private constructor(data: TokenizerData) {
    this.vocab = data.pieces.length;
    this.#pieces = data.pieces;
    this.#ids = data.ids;
    this.#merges = new Merges(data.merges);
    this.#byteIds = data.byteIds;
    this.#byteOf = new Map(data.byteIds.map((id, byte) => [id, Uint8Array.of(byte)]));
    this.#special = new Set(data.specialIds);
    this.#byteLevel = data.byteLevel;
    this.#sentencePiece = data.sentencePiece;
    const added = [...(data.byteLevel?.added ?? [])];
    const plain = added.filter(([, id]) => !this.#special.has(id));
    this.#added = { inText: finder(plain), inTemplate: finder(added) };
  }

  /** @throws Failure BadTokenizer for anything outside the subset, with the field that is wrong */
  static parse(json: unknown): Tokenizer {
    return new Tokenizer(parseTokenizerJson(json));
  }

  /** Reads the bytes of a tokenizer.json. @throws Failure BadTokenizer */
  static fromBytes(bytes: Uint8Array): Tokenizer {
    if (bytes.length > MAX_TOKENIZER_BYTES) {
      const limit = `at most ${MAX_TOKENIZER_BYTES} are read`;
      throw new Failure('BadTokenizer', `tokenizer.json has ${bytes.length} bytes, ${limit}`);
    }
    let json: unknown;
    try {
      json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    } catch (cause) {
      throw new Failure('BadTokenizer', 'tokenizer.json is not JSON in UTF-8', { cause });
    }
    return Tokenizer.parse(json);
  }

  /** Token ids of a text. Nothing is added in front; a lone surrogate is read as U+FFFD. */
  encode(text: string): number[] {
    return this.#encode(text, false);
  }

  /** The same of a chat template's own text, in which special tokens count (not of training's). */
  encodeTemplate(text: string): number[] {
    return this.#encode(text, true);
  }

  #encode(text: string, inTemplate: boolean): number[] {
    const rules = this.#byteLevel;
    const whole = text.replace(/\p{Surrogate}/gu, '\ufffd');
    if (this.#sentencePiece !== null) return this.#sentencePiece.encode(whole, inTemplate);
    const added = inTemplate ? this.#added.inTemplate : this.#added.inText;
    const tokens: number[] = [];
    const cut = (stretch: string): void => {
      const composed = rules === null ? stretch.replaceAll(' ', '▁') : stretch;
      const normalised = rules?.compose ? composed.normalize('NFC') : composed;
      for (const [piece] of normalised.matchAll(rules?.split ?? SPLIT)) {
        for (const token of this.#merged(piece)) tokens.push(token);
      }
    };
    let end = 0;
    for (const { index, 0: content } of added === null ? [] : whole.matchAll(added)) {
      cut(whole.slice(end, index));
      tokens.push(rules?.added.get(content) ?? 0);
      end = index + content.length;
    }
    cut(whole.slice(end));
    return tokens;
  }

  /** Whether a text's tokens begin with a space that it did not have: decoding takes it away. */
  get dummyPrefix(): boolean {
    return this.#sentencePiece?.dummyPrefix === true;
  }

  /** The text of tokens: special tokens and bytes that are not UTF-8 have none. */
  decode(ids: Iterable<number>): string {
    const stream = new TokenStream(this);
    let text = '';
    for (const id of ids) text += stream.push(id);
    return text + stream.flush();
  }

  /** What one token stands for: text, bytes that are none, or '' (special). @throws RangeError */
  meaning(id: number): string | Uint8Array {
    const known = this.#meanings[id];
    if (known !== undefined) return known;
    const piece = this.#pieces[id];
    if (piece === undefined) throw new RangeError(`token ${id} of ${this.vocab}`);
    const meaning = this.#special.has(id) ? '' : this.#meaningOf(id, piece);
    this.#meanings[id] = meaning;
    return meaning;
  }

  /** The piece as tokenizer.json has it, where it has letters for bytes; else null. */
  byteLevelPiece(id: number): string | null {
    return this.#byteLevel === null ? null : (this.#pieces[id] ?? null);
  }

  #meaningOf(id: number, piece: string): string | Uint8Array {
    if (this.#byteLevel === null) return this.#byteOf.get(id) ?? piece.replaceAll('▁', ' ');
    if (this.#byteLevel.added.get(piece) === id) return piece;
    const bytes = bytesOf(piece);
    const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
    return lettersOf(new TextEncoder().encode(text)) === piece ? text : bytes;
  }

  #merged(piece: string): readonly number[] {
    const known = this.#cache.get(piece);
    if (known !== undefined) return known;
    const tokens = this.#wholePiece(piece) ?? mergePiece(this.#symbols(piece), this.#merges);
    if (piece.length > CACHE_PIECE_LENGTH) return tokens;
    if (this.#cache.size >= CACHE_ENTRIES) {
      for (const oldest of this.#cache.keys()) {
        this.#cache.delete(oldest);
        break;
      }
    }
    this.#cache.set(piece, tokens);
    return tokens;
  }

  /** The one token that a cut is, where that comes before its merges. */
  #wholePiece(piece: string): readonly number[] | null {
    if (this.#byteLevel?.whole !== true) return null;
    const id = this.#ids.get(lettersOf(new TextEncoder().encode(piece)));
    return id === undefined ? null : [id];
  }

  /** One token per character, or its UTF-8 bytes where the vocabulary lacks the character. */
  #symbols(piece: string): number[] {
    if (this.#byteLevel !== null) {
      return Array.from(new TextEncoder().encode(piece), (byte) => this.#byteIds[byte] ?? 0);
    }
    const symbols: number[] = [];
    for (const character of piece) {
      const id = this.#ids.get(character);
      if (id === undefined) {
        for (const byte of new TextEncoder().encode(character)) {
          symbols.push(this.#byteIds[byte] ?? 0);
        }
      } else symbols.push(id);
    }
    return symbols;
  }
}
