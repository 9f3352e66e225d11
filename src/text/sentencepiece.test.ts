import { describe, expect, it } from 'vitest';
import { Tokenizer } from './tokenizer.ts';

/** The form of convert; that it gives SentencePiece's tokens is tested in convert/formats. */
const bytes = Array.from(
  { length: 256 },
  (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
);
const OWN = ['宝', '▁', '▁宝', '▁▁', '<|x|>'];
const file = {
  version: '1.0',
  type: 'sentencepiece-bpe',
  dummy_prefix: true,
  special: [0, 1],
  user_defined: [262],
  pieces: ['<unk>', '<s>', ...bytes, ...OWN],
  scores: [...Array.from({ length: 258 }, () => 0), 0, 0, -1, -2, 0],
};
const [, , bao, spaces, x] = [0, 1, 2, 3, 4].map((i) => 258 + i);

describe('a SentencePiece tokenizer', () => {
  const tokenizer = Tokenizer.parse(file);

  it('puts a space before a text, and takes it away again', () => {
    expect(tokenizer.encode('宝')).toEqual([bao]);
    expect(tokenizer.decode([bao ?? 0, bao ?? 0])).toBe('宝 宝');
    expect(tokenizer.encode('')).toEqual([]);
    expect(tokenizer.encode(' ')).toEqual([spaces]);
    expect(tokenizer.decode([1, spaces ?? 0])).toBe(' ');
    const plain = Tokenizer.parse({ ...file, dummy_prefix: false });
    expect(plain.encode('宝')).toEqual([258]);
    expect(plain.decode([bao ?? 0])).toBe(' 宝');
  });

  it('finds user-defined pieces everywhere, control pieces in a template only', () => {
    const plain = Tokenizer.parse({ ...file, dummy_prefix: false });
    expect(plain.encode('宝<|x|>宝')).toEqual([258, x, 258]);
    expect(plain.encodeTemplate('<s>宝<|x|><s>')).toEqual([1, 258, x, 1]);
    expect(plain.encode('<s>')).toEqual([...new TextEncoder().encode('<s>')].map((b) => 2 + b));
  });

  it.each([
    [{ dummy_prefix: 1 }, 'dummy_prefix'],
    [{ normalizer: null }, 'normalizer'],
    [{ scores: [0] }, 'scores: 1 for 263 pieces'],
    [{ special: [0, 300] }, 'special: piece 300 is none'],
    [{ special: [0, 258] }, '"宝" is a single character'],
    [{ special: [0, 3] }, 'special: piece 3 is none, a byte or stands twice'],
    [{ user_defined: [262, 262] }, 'user_defined: piece 262 is none, a byte or stands twice'],
    [{ pieces: [...file.pieces.slice(1), 'a'] }, 'special'],
    [{ pieces: file.pieces.map((one) => (one === '<0x41>' ? 'A' : one)) }, '<0x41> is missing'],
  ])('is refused with %j', (changes, message) => {
    expect(() => Tokenizer.parse({ ...file, ...changes })).toThrow(message);
  });
});
