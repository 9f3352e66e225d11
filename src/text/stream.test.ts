import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TokenStream } from './stream.ts';
import { Tokenizer } from './tokenizer.ts';

const tokenizer = Tokenizer.fromBytes(
  readFileSync(new URL('./testdata/tokenizer.json', import.meta.url)),
);
const byteToken = (byte: number): number => 3 + byte;

/** What a page would show: every bit of text in the order it came. */
function stream(ids: readonly number[]): string[] {
  const tokens = new TokenStream(tokenizer);
  return [...ids.map((id) => tokens.push(id)), tokens.flush()];
}

const tricky = fc.constantFrom(
  '宝宝发烧38.5度',
  '𠮷',
  '龘',
  '👨‍👩‍👧‍👦',
  '👶🏽',
  '🇨🇳',
  '❤️',
  'é',
  '\u200d',
  '\ufeff',
  ' ',
  '\n',
  'fever',
);
const chinese = fc.array(fc.oneof(tricky, fc.string({ unit: 'grapheme', maxLength: 4 })), {
  maxLength: 12,
});

describe('token stream', () => {
  it('gives the same text however its bytes are split, and never U+FFFD', () => {
    fc.assert(
      fc.property(chinese, fc.infiniteStream(fc.boolean()), (parts, asBytes) => {
        const text = parts.join('').replaceAll('▁', ' ').replaceAll('\ufffd', '');
        const ids: number[] = [];
        // Every character comes either as its piece (or the bytes of it) or as bytes alone.
        for (const character of text) {
          if (asBytes.next().value) {
            ids.push(...Array.from(new TextEncoder().encode(character), byteToken));
          } else ids.push(...tokenizer.encode(character));
        }
        const shown = stream(ids);
        expect(shown.join('')).toBe(text);
        for (const piece of shown) expect(piece).not.toContain('\ufffd');
      }),
      { numRuns: 300 },
    );
  });

  it('gives the text of a whole encoding as decode does', () => {
    fc.assert(
      fc.property(chinese, (parts) => {
        const ids = tokenizer.encode(parts.join(''));
        expect(stream(ids).join('')).toBe(tokenizer.decode(ids));
      }),
    );
  });

  it('shows no U+FFFD and no half of a pair for any tokens at all', () => {
    const anyToken = fc.integer({ min: 0, max: tokenizer.vocab - 1 });
    const byte = fc.integer({ min: 3, max: 258 });
    fc.assert(
      fc.property(fc.array(fc.oneof(anyToken, byte), { maxLength: 40 }), (ids) => {
        for (const piece of stream(ids)) expect(piece).not.toMatch(/\ufffd|\p{Surrogate}/u);
      }),
    );
  });

  it('holds a character back until its last byte', () => {
    const bytes = [...new TextEncoder().encode('𠮷')].map(byteToken);
    expect(stream(bytes)).toEqual(['', '', '', '𠮷', '']);
  });

  it('drops an unfinished character at the end and before other text', () => {
    expect(stream([byteToken(0xe5), byteToken(0xae)]).join('')).toBe('');
    expect(stream([byteToken(0xe5), byteToken(0xae), byteToken(0x41)]).join('')).toBe('A');
  });

  it('shows nothing for special tokens, and lets a character go on across one', () => {
    const [a = 0, b = 0, c = 0] = new TextEncoder().encode('好');
    expect(stream([0, 1, 2]).join('')).toBe('');
    expect(stream([byteToken(a), byteToken(b), 1, byteToken(c)]).join('')).toBe('好');
  });
});
