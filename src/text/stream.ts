/** What the stream needs to know of a tokenizer. */
export interface TokenMeanings {
  /** Text, or bytes that are part of a character. */
  meaning(id: number): string | Uint8Array;
  /** The first space of a text was put there by the tokenizer. */
  readonly dummyPrefix?: boolean;
}

/**
 * Text of tokens as they come. Byte pieces of one character are held back until the character is
 * whole; bytes that can never become one are dropped, so U+FFFD is never shown.
 */
export class TokenStream {
  readonly #meanings: TokenMeanings;
  readonly #encoder = new TextEncoder();
  // A lenient decoder holds an unfinished character back and writes U+FFFD for a broken one.
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  #begins: boolean;

  constructor(meanings: TokenMeanings) {
    this.#meanings = meanings;
    this.#begins = meanings.dummyPrefix === true;
  }

  /** The text that this token completes; '' while a character is still in pieces. */
  push(id: number): string {
    const meaning = this.#fromBeginning(this.#meanings.meaning(id));
    if (meaning === '') return '';
    const bytes = typeof meaning === 'string' ? this.#encoder.encode(meaning) : meaning;
    return withoutReplacements(this.#decoder.decode(bytes, { stream: true }));
  }

  /** A meaning without the space that stands before every text. */
  #fromBeginning(meaning: string | Uint8Array): string | Uint8Array {
    if (!this.#begins || meaning === '') return meaning;
    this.#begins = false;
    return typeof meaning === 'string' && meaning.startsWith(' ') ? meaning.slice(1) : meaning;
  }

  /** Ends the text: what is still held back is no whole character and is dropped. */
  flush(): string {
    return withoutReplacements(this.#decoder.decode());
  }
}

function withoutReplacements(text: string): string {
  return text.replaceAll('\ufffd', '');
}
