import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { failureName } from '../failure.ts';
import { encodeChat } from './template.ts';
import { TokenStream } from './stream.ts';
import { Tokenizer } from './tokenizer.ts';

interface Json {
  [key: string]: unknown;
}
interface TokenizerJson extends Json {
  added_tokens: (Json & { id: number; content: string })[];
  model: Json & { vocab: Record<string, number>; merges: unknown[] };
}
interface Cases {
  readonly files: readonly string[];
  readonly chunk: number;
  readonly lines: number;
  readonly texts: readonly string[];
  readonly tokenizers: Readonly<
    Record<
      'qwen2' | 'llama3',
      {
        readonly ids: readonly number[][];
        readonly decoded: readonly string[];
        readonly sums: string;
        readonly turn: string;
        readonly turnIds: readonly number[];
      }
    >
  >;
}

const read = (name: string): Uint8Array =>
  readFileSync(new URL(`./testdata/${name}`, import.meta.url));
const json = (name: string): unknown => JSON.parse(new TextDecoder().decode(read(name)));
/** Written by the Python library: see testdata/make_byte_level.py. */
const cases = json('byte-cases.json') as Cases;
const names = ['qwen2', 'llama3'] as const;
const tokenizers = {
  qwen2: Tokenizer.fromBytes(read('byte-qwen2.json')),
  llama3: Tokenizer.fromBytes(read('byte-llama3.json')),
};

/** Chinese medical text in lines, as the script cuts it. */
const lines = cases.files.flatMap((name) => {
  const file = new URL(`../../training/sample/${name}`, import.meta.url);
  const text = [...readFileSync(file, 'utf8').replaceAll('\r\n', '\n')];
  const count = Math.ceil(text.length / cases.chunk);
  return Array.from({ length: count }, (_, i) =>
    text.slice(i * cases.chunk, (i + 1) * cases.chunk).join(''),
  );
});

/** CRC-32 of ids as numbers of two bytes. */
function checksum(ids: readonly number[]): number {
  let crc = -1;
  for (const byte of new Uint8Array(Uint16Array.from(ids).buffer)) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

describe.each(names)('a byte-level tokenizer as of %s', (name) => {
  const tokenizer = tokenizers[name];
  const expected = cases.tokenizers[name];

  it('gives the ids of the tokenizers library for mixed scripts, signs and noise', () => {
    expect(cases.texts.length).toBeGreaterThan(500);
    cases.texts.forEach((text, i) => {
      expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(expected.ids[i]);
      expect(tokenizer.encode(text), 'from the cache').toEqual(expected.ids[i]);
    });
  });

  it('gives them for thousands of lines of Chinese medical text', () => {
    expect(lines.length).toBe(cases.lines);
    const sums = Buffer.from(expected.sums, 'base64');
    lines.forEach((line, i) => {
      const ids = tokenizer.encode(line);
      expect(checksum(ids), line).toBe(sums.readUInt32LE(4 * i));
      const text = name === 'qwen2' ? line.normalize('NFC') : line;
      expect(tokenizer.decode(ids)).toBe(text.replaceAll('\ufffd', ''));
    });
  });

  it('decodes as the library does, but for what is no character', () => {
    expected.ids.forEach((ids, i) => {
      expect(tokenizer.decode(ids)).toBe(expected.decoded[i]?.replaceAll('\ufffd', ''));
    });
  });

  it('returns any text as it was', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const composed = name === 'qwen2' ? text.normalize('NFC') : text;
        expect(tokenizer.decode(tokenizer.encode(text))).toBe(composed.replaceAll('\ufffd', ''));
      }),
    );
  });

  it('shows whole characters only, whatever tokens come', () => {
    const anyToken = fc.integer({ min: 0, max: tokenizer.vocab - 1 });
    fc.assert(
      fc.property(fc.array(anyToken, { maxLength: 60 }), (ids) => {
        const stream = new TokenStream(tokenizer);
        const shown = [...ids.map((id) => stream.push(id)), stream.flush()];
        for (const piece of shown) expect(piece).not.toMatch(/\ufffd|\p{Surrogate}/u);
        expect(shown.join('')).toBe(tokenizer.decode(ids));
      }),
      { numRuns: 500 },
    );
  });

  it('makes a special token of a template, and never of what a person types', () => {
    const special = tokenizer.encodeTemplate(expected.turn);
    expect(special).toEqual(expected.turnIds);
    const plain = tokenizer.encode(expected.turn);
    expect(plain).not.toContain(special[0]);
    expect(tokenizer.decode(special)).toBe(tokenizer.decode(special.slice(1)));
    const [prefix = ''] = expected.turn.split('\n');
    const empty = { prefix: '', suffix: '' };
    const template = {
      ...{ system: empty, user: { prefix: `${prefix}\n`, suffix: '' }, assistant: empty },
      ...{ separator: '', endId: 1, stopIds: [1] },
    };
    const turns = [{ role: 'user', text: expected.turn }] as const;
    const tokens = encodeChat(tokenizer, template, '', turns);
    expect(tokens).toEqual([...tokenizer.encodeTemplate(`${prefix}\n`), ...plain]);
  });

  it('merges a run of a hundred thousand characters and spaces', () => {
    const text = '宝宝发烧咳嗽流鼻涕'.repeat(11_000) + ' '.repeat(100_000) + 'x';
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
  });
});

describe('the stream of a byte-level tokenizer', () => {
  it('holds a character back until its last byte', () => {
    const tokenizer = tokenizers.llama3;
    const ids = tokenizer.encode('👶龘');
    const stream = new TokenStream(tokenizer);
    const shown = ids.map((id) => stream.push(id));
    expect(shown.length).toBeGreaterThan(3);
    expect(shown.filter((piece) => piece !== '')).toEqual(['👶', '龘']);
  });
});

describe('the reader of a byte-level tokenizer.json', () => {
  const fresh = () => json('byte-qwen2.json') as TokenizerJson;
  const refusal = (change: (file: TokenizerJson) => void): string => {
    const file = fresh();
    change(file);
    try {
      Tokenizer.parse(file);
    } catch (error) {
      expect(failureName(error)).toBe('BadTokenizer');
      return String(error);
    }
    return 'no failure';
  };

  it('takes merges as pairs and as text, and absent fields of the model', () => {
    const file = fresh();
    file.model.merges = file.model.merges.map((merge) => (merge as string[]).join(' '));
    for (const field of ['dropout', 'byte_fallback', 'ignore_merges']) delete file.model[field];
    const other = Tokenizer.parse(file);
    const ids = cases.texts.map((text) => other.encode(text));
    expect(ids).toEqual(cases.tokenizers.qwen2.ids);
  });

  const split = (file: TokenizerJson) =>
    (file['pre_tokenizer'] as { pretokenizers: [{ pattern: Json } & Json, Json] }).pretokenizers;
  it.each<[string, (file: TokenizerJson) => void, RegExp]>([
    ['another expression', (f) => (split(f)[0].pattern['Regex'] = '\\s+'), /pattern\.Regex/],
    ['another cut', (f) => (split(f)[0]['behavior'] = 'Removed'), /behavior/],
    ['a space in front', (f) => (split(f)[1]['add_prefix_space'] = true), /add_prefix_space/],
    ['a cut of its own', (f) => (split(f)[1]['use_regex'] = true), /use_regex/],
    ['another normalizer', (f) => (f['normalizer'] = { type: 'NFKC' }), /normalizer/],
    ['another decoder', (f) => (f['decoder'] = { type: 'Fuse' }), /decoder/],
    ['an unknown token', (f) => (f.model['unk_token'] = '<unk>'), /unk_token/],
    ['byte fallback', (f) => (f.model['byte_fallback'] = true), /byte_fallback/],
    ['a byte less', (f) => rename(f, 'Ġ', 'ĠĠĠĠĠĠĠĠĠĠĠ'), /byte 32, "Ġ", is missing/],
    ['a letter of no byte', (f) => rename(f, f.model.merges.flat()[0] as string, '宝'), /./],
    ['a stripping token', (f) => (f.added_tokens[0] = { ...first(f), lstrip: true }), /lstrip/],
    ['a token twice', (f) => f.added_tokens.push(first(f)), /stands twice/],
    ['a token over a piece', (f) => (first(f).id = 5), /the vocab says otherwise/],
    ['a token far away', (f) => (first(f).id = 900), /has id 900/],
    [
      'an id without a piece',
      (f) => Object.assign(first(f), { content: 'Ġ', id: f.model.vocab['Ġ'] }),
      /no piece has id 700/,
    ],
  ])('refuses %s', (_, change, message) => {
    const text = refusal(change);
    expect(text).toMatch(/^BadTokenizer/);
    expect(text).toMatch(message);
  });
});

function first(file: TokenizerJson): TokenizerJson['added_tokens'][number] {
  const [token] = file.added_tokens;
  if (token === undefined) throw new Error('no added token');
  return token;
}

/** Gives the id of one piece to another. */
function rename(file: TokenizerJson, from: string, to: string): void {
  const { [from]: id = 0, ...rest } = file.model.vocab;
  file.model.vocab = { ...rest, [to]: id };
}
