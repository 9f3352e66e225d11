/** What the stream needs to know of a tokenizer. */
export interface TokenMeanings {
  /** Text, or bytes that are part of a character. */
  meaning(id: number): string | Uint8Array;
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

  constructor(meanings: TokenMeanings) {
    this.#meanings = meanings;
  }

  /** The text that this token completes; '' while a character is still in pieces. */
  push(id: number): string {
    const meaning = this.#meanings.meaning(id);
    if (meaning === '') return '';
    const bytes = typeof meaning === 'string' ? this.#encoder.encode(meaning) : meaning;
    return withoutReplacements(this.#decoder.decode(bytes, { stream: true }));
  }

  /** Ends the text: what is still held back is no whole character and is dropped. */
  flush(): string {
    return withoutReplacements(this.#decoder.decode());
  }
}

function withoutReplacements(text: string): string {
  return text.replaceAll('\ufffd', '');
}
