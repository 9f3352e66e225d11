import { Failure } from '../failure.ts';
import { Merges, mergePiece } from './bpe.ts';
import { TokenStream } from './stream.ts';
import { parseTokenizerJson, type TokenizerData } from './tokenizer-json.ts';

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
 * Byte-pair encoding with byte fallback, as the `tokenizers` library does it for the strict
 * subset of tokenizer.json that `tokenizer-json.ts` reads. Text never becomes a special token.
 */
export class Tokenizer {
  /** Number of pieces, V. */
  readonly vocab: number;
  readonly #pieces: readonly string[];
  readonly #ids: ReadonlyMap<string, number>;
  readonly #merges: Merges;
  readonly #byteIds: readonly number[]; // [256]
  readonly #byteOf: ReadonlyMap<number, number>;
  readonly #special: ReadonlySet<number>;
  readonly #cache = new Map<string, readonly number[]>();

  private constructor(data: TokenizerData) {
    this.vocab = data.pieces.length;
    this.#pieces = data.pieces;
    this.#ids = data.ids;
    this.#merges = new Merges(data.merges);
    this.#byteIds = data.byteIds;
    this.#byteOf = new Map(data.byteIds.map((id, byte) => [id, byte]));
    this.#special = new Set(data.specialIds);
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
    const tokens: number[] = [];
    const normalised = text.replace(/\p{Surrogate}/gu, '\ufffd').replaceAll(' ', '▁');
    for (const [piece] of normalised.matchAll(SPLIT)) {
      for (const token of this.#merged(piece)) tokens.push(token);
    }
    return tokens;
  }

  /** The text of tokens: special tokens and bytes that are not UTF-8 have none. */
  decode(ids: Iterable<number>): string {
    const stream = new TokenStream(this);
    let text = '';
    for (const id of ids) text += stream.push(id);
    return text + stream.flush();
  }

  /** What one token stands for: text, one byte, or nothing (special). @throws RangeError */
  meaning(id: number): string | { readonly byte: number } {
    const piece = this.#pieces[id];
    if (piece === undefined) throw new RangeError(`token ${id} of ${this.vocab}`);
    if (this.#special.has(id)) return '';
    const byte = this.#byteOf.get(id);
    return byte === undefined ? piece.replaceAll('▁', ' ') : { byte };
  }

  #merged(piece: string): readonly number[] {
    const known = this.#cache.get(piece);
    if (known !== undefined) return known;
    const tokens = mergePiece(this.#symbols(piece), this.#merges);
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

  /** One token per character, or its UTF-8 bytes where the vocabulary lacks the character. */
  #symbols(piece: string): number[] {
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
