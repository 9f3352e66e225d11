import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { failureName } from '../failure.ts';
import { MAX_TOKENIZER_BYTES, Tokenizer } from './tokenizer.ts';

const read = (name: string): Uint8Array =>
  readFileSync(new URL(`./testdata/${name}`, import.meta.url));
const bytes = read('tokenizer.json');
const tokenizer = Tokenizer.fromBytes(bytes);

interface Json {
  [key: string]: unknown;
}
interface TokenizerJson extends Json {
  added_tokens: Json[];
  model: Json & { vocab: Record<string, unknown>; merges: unknown[] };
}
const parse = (text: Uint8Array): unknown => JSON.parse(new TextDecoder().decode(text));
/** A fresh copy of the good file, to be broken. */
const fresh = (): TokenizerJson => parse(bytes) as TokenizerJson;

/** Written by the Python library: see testdata/make_cases.py. */
const cases = parse(read('cases.json')) as {
  encode: { text: string; ids: number[]; decoded: string }[];
  decode: { ids: number[]; decoded: string }[];
};

describe('tokenizer', () => {
  it('gives the ids of the tokenizers library for every case', () => {
    expect(cases.encode.length).toBeGreaterThan(50);
    for (const { text, ids } of cases.encode) expect(tokenizer.encode(text), text).toEqual(ids);
  });

  it('gives the same ids again from its cache', () => {
    for (const { text, ids } of cases.encode) expect(tokenizer.encode(text), text).toEqual(ids);
  });

  it('decodes as the tokenizers library does', () => {
    for (const { ids, decoded } of [...cases.encode, ...cases.decode]) {
      expect(tokenizer.decode(ids)).toBe(decoded);
    }
  });

  it('returns any text as it was, but for the space sign', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const expected = text.replaceAll('▁', ' ').replaceAll('\ufffd', '');
        expect(tokenizer.decode(tokenizer.encode(text))).toBe(expected);
      }),
    );
  });

  it('never makes a special token of text', () => {
    const looksSpecial = fc.constantFrom('<s>', '</s>', '<unk>', '<0x0A>', '▁', 'a', '宝');
    fc.assert(
      fc.property(fc.array(looksSpecial), (parts) => {
        for (const id of tokenizer.encode(parts.join(''))) expect(id).toBeGreaterThan(2);
      }),
    );
  });

  it('reads a lone surrogate as U+FFFD', () => {
    expect(tokenizer.encode('a\ud842b')).toEqual(tokenizer.encode('a\ufffdb'));
  });

  it('drops bytes that are no character when it decodes', () => {
    const byte = (value: number): number => 3 + value;
    expect(tokenizer.decode([byte(0xe5), byte(0xae), ...tokenizer.encode('好')])).toBe('好');
    expect(tokenizer.decode([byte(0xff), byte(0x41)])).toBe('A');
  });

  it('merges a run of a hundred thousand characters in seconds', () => {
    const start = performance.now();
    const tokens = tokenizer.encode('宝宝发烧咳嗽流鼻涕'.repeat(11_000));
    expect(performance.now() - start).toBeLessThan(10_000);
    expect(tokenizer.decode(tokens)).toHaveLength(99_000);
  });

  it('refuses an id that it does not have', () => {
    expect(() => tokenizer.decode([tokenizer.vocab])).toThrow(RangeError);
  });
});

/** What a refusal says. */
function refusalOf(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    expect(failureName(error)).toBe('BadTokenizer');
    return String(error);
  }
  throw new Error('the file was read');
}

/** What the refusal of a broken file says. */
function refusal(break_: (json: TokenizerJson) => void): string {
  const json = fresh();
  break_(json);
  return refusalOf(() => Tokenizer.parse(json));
}

describe('the reader of tokenizer.json', () => {
  it('reads merges written as "a b" too', () => {
    const json = fresh();
    json.model.merges = json.model.merges.map((merge) => (merge as string[]).join(' '));
    const other = Tokenizer.parse(json);
    for (const { text, ids } of cases.encode) expect(other.encode(text)).toEqual(ids);
  });

  const wrong: [string, RegExp, (json: TokenizerJson) => void][] = [
    ['an unknown field', /extra/, (j) => (j['extra'] = 1)],
    ['an unknown field of the model', /model\.extra/, (j) => (j.model['extra'] = 1)],
    ['another model', /model\.type/, (j) => (j.model['type'] = 'Unigram')],
    ['dropout', /dropout/, (j) => (j.model['dropout'] = 0.1)],
    ['no byte fallback', /byte_fallback/, (j) => (j.model['byte_fallback'] = false)],
    ['another normalizer', /normalizer/, (j) => (j['normalizer'] = { type: 'NFC' })],
    ['a post-processor', /post_processor/, (j) => (j['post_processor'] = { type: 'Fuse' })],
    ['another split', /pre_tokenizer/, (j) => (j['pre_tokenizer'] = { type: 'ByteLevel' })],
    ['a fourth added token', /added_tokens/, (j) => j.added_tokens.push({ id: 3 })],
    ['a missing added token', /added_tokens/, (j) => j.added_tokens.pop()],
    ['a merge of an unknown part', /merges\.0: "qqq"/, (j) => (j.model.merges[0] = ['qqq', 'O'])],
    [
      'a merge into an unknown piece',
      /merges\.0: "O宝" is not in the vocab/,
      (j) => (j.model.merges[0] = ['O', '宝']),
    ],
    ['a merge of three', /merges\.0: .* is not a pair/, (j) => (j.model.merges[0] = 'a b c')],
    ['a merge of bytes', /special or byte/, (j) => (j.model.merges[0] = ['<0x41>', 'O'])],
    ['a merge given twice', /twice/, (j) => j.model.merges.push(j.model.merges[0])],
    ['a missing byte piece', /<0x41>/, (j) => rename(j, '<0x41>', 'renamed')],
    ['a missing special piece', /<\/s>/, (j) => rename(j, '</s>', 'renamed')],
    ['an id given twice', /given twice/, (j) => (j.model.vocab['O'] = j.model.vocab['e'])],
    ['an id beyond the vocab', /has id 99999/, (j) => (j.model.vocab['O'] = 99_999)],
    ['a fractional id', /has id 1\.5/, (j) => (j.model.vocab['O'] = 1.5)],
    ['an id that is no number', /has id 5/, (j) => (j.model.vocab['O'] = '5')],
    ['a lone surrogate', /lone surrogate/, (j) => rename(j, 'O', '\ud800')],
    ['an endless piece', /piece "z+"/, (j) => rename(j, 'O', 'z'.repeat(300))],
    ['a list for a vocab', /model\.vocab/, (j) => (j.model['vocab'] = [] as never)],
  ];

  it.each(wrong)('refuses %s', (_, message, break_) => {
    expect(refusal(break_)).toMatch(message);
  });

  it('keeps pieces with the names of object members', () => {
    const json = fresh();
    const pieces = tokenizer.encode('constructor').map((id) => tokenizer.decode([id]));
    const [first = '', ...rest] = pieces;
    let made = first;
    for (const piece of rest) {
      json.model.merges.push([made, piece]);
      made += piece;
      json.model.vocab[made] = Object.keys(json.model.vocab).length;
    }
    const other = Tokenizer.parse(json);
    expect(pieces.length).toBeGreaterThan(1);
    expect(other.encode('constructor')).toEqual([other.vocab - 1]);
    expect(other.decode([other.vocab - 1])).toBe('constructor');
  });

  it('refuses what is no JSON, no UTF-8, or too large', () => {
    const refused = (data: Uint8Array): string => refusalOf(() => Tokenizer.fromBytes(data));
    expect(refused(new TextEncoder().encode('{'))).toMatch(/not JSON in UTF-8/);
    expect(refused(Uint8Array.of(0x22, 0xff, 0x22))).toMatch(/not JSON in UTF-8/);
    expect(refused(new Uint8Array(MAX_TOKENIZER_BYTES + 1))).toMatch(/at most/);
    expect(refused(new TextEncoder().encode('null'))).toMatch(/the file/);
  });
});

/** Gives the id of one piece to another. */
function rename(json: TokenizerJson, from: string, to: string): void {
  const { [from]: id, ...rest } = json.model.vocab;
  json.model.vocab = { ...rest, [to]: id };
}
