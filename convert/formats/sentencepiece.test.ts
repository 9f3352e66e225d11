import { readFileSync } from 'node:fs';
import protobuf from 'protobufjs/light.js';
import { describe, expect, it } from 'vitest';
import { Tokenizer } from '../../src/text/tokenizer.ts';
import { sentencePieceTokenizer } from './sentencepiece.ts';

const read = (name: string): Uint8Array =>
  new Uint8Array(readFileSync(new URL(`../fixtures/sentencepiece/${name}`, import.meta.url)));
const load = (model: Uint8Array): Tokenizer =>
  Tokenizer.fromBytes(new TextEncoder().encode(sentencePieceTokenizer(model)));

const MODELS = ['plain', 'prefix', 'ties'] as const;
/** Written by Python's sentencepiece: see fixtures/make_sentencepiece.py. */
const cases = JSON.parse(new TextDecoder().decode(read('cases.json'))) as {
  texts: string[];
} & Record<(typeof MODELS)[number], { ids: number[][]; decoded: string[] }>;

describe.each(MODELS)('the model %s', (name) => {
  const tokenizer = load(read(`${name}.model`));

  it("gives the ids of Python's sentencepiece for every text", () => {
    expect(cases.texts.length).toBeGreaterThanOrEqual(400);
    for (const [i, text] of cases.texts.entries()) {
      expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(cases[name].ids[i]);
    }
  });

  it('decodes as it does, but for bytes that are no text', () => {
    for (const [i, ids] of cases[name].ids.entries()) {
      const expected = cases[name].decoded[i]?.replaceAll('\ufffd', '');
      expect(tokenizer.decode(ids), JSON.stringify(cases.texts[i])).toBe(expected);
    }
  });

  it('never makes a control token of what a person types, but does in a template', () => {
    const text = '<s><unk>a</s><|system|>';
    const [controls, special] = [
      [1, 2, 3, 4],
      ['<s>', '</s>'],
    ];
    for (const id of tokenizer.encode(text)) expect([0, ...controls]).not.toContain(id);
    expect(special.map((one) => tokenizer.encodeTemplate(one))).toEqual([[1], [2]]);
    expect(tokenizer.encodeTemplate('<|system|>')).toEqual([3]);
    expect(tokenizer.meaning(1)).toBe('');
  });
});

it('has models that differ: a space in front, and another order among equal scores', () => {
  const tokens = (name: (typeof MODELS)[number]) => JSON.stringify(cases[name].ids);
  expect(new Set(MODELS.map(tokens)).size).toBe(3);
});

/** A message of fields that the reader does not need to know, to be put into a model. */
/** Without it, a field that is there and false would be read as one that is not there. */
const edition = 'proto2';
const root = protobuf.Root.fromJSON({
  nested: {
    Model: {
      edition,
      fields: {
        pieces: { type: 'Piece', id: 1, rule: 'repeated' },
        trainer: { type: 'Trainer', id: 2 },
        normalizer: { type: 'Normalizer', id: 3 },
        denormalizer: { type: 'Normalizer', id: 5 },
      },
    },
    Piece: {
      edition,
      fields: {
        piece: { type: 'bytes', id: 1 },
        score: { type: 'float', id: 2 },
        type: { type: 'int32', id: 3 },
      },
    },
    Trainer: {
      edition,
      fields: {
        modelType: { type: 'int32', id: 3 },
        suffix: { type: 'bool', id: 24 },
        fallback: { type: 'bool', id: 35 },
      },
    },
    Normalizer: {
      edition,
      fields: {
        name: { type: 'string', id: 1 },
        charsmap: { type: 'bytes', id: 2 },
        prefix: { type: 'bool', id: 3 },
        extra: { type: 'bool', id: 4 },
        escape: { type: 'bool', id: 5 },
      },
    },
  },
});
const modelType = root.lookupType('Model');

interface Piece {
  piece?: Uint8Array;
  score: number;
  type?: number;
}
interface Model {
  pieces: Piece[];
  trainer?: Record<string, unknown>;
  normalizer?: Record<string, unknown>;
  denormalizer?: Record<string, unknown>;
}
const piece = (text: string, score = 0, type = 1): Piece => ({
  piece: new TextEncoder().encode(text),
  score,
  type,
});
const bytePieces = Array.from({ length: 256 }, (_, byte) =>
  piece(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`, 0, 6),
);
const model = (...pieces: Piece[]): Model => ({
  pieces: [piece('<unk>', 0, 2), piece('<s>', 0, 3), ...bytePieces, ...pieces],
  trainer: { modelType: 2, fallback: true },
  normalizer: { name: 'identity', prefix: false, extra: false },
});
const bytesOf = (message: Model): Uint8Array =>
  modelType.encode(modelType.fromObject(message)).finish();
const FIRST = 258;

describe('merges', () => {
  it('go leftmost among equal scores, whatever the ids are', () => {
    const pieces = [piece('b', -9), piece('a', -9), piece('ba', -1), piece('ab', -1)];
    const tokenizer = load(bytesOf(model(...pieces)));
    const [b, a, ba, ab] = [0, 1, 2, 3].map((i) => FIRST + i);
    expect(tokenizer.encode('aba')).toEqual([ab, a]);
    expect(tokenizer.encode('bab')).toEqual([ba, b]);
    expect(tokenizer.encode('aabab')).toEqual([a, ab, ab]);
  });

  it('go by the score of what comes out, not by the order of the pieces', () => {
    const pieces = [piece('a'), piece('b'), piece('c'), piece('ab', -2), piece('bc', -1)];
    expect(load(bytesOf(model(...pieces))).encode('abc')).toEqual([FIRST, FIRST + 4]);
  });

  it('reach over characters that are no pieces themselves, which else become bytes', () => {
    const tokenizer = load(bytesOf(model(piece('宝宝'), piece('a'))));
    expect(tokenizer.encode('宝宝a')).toEqual([FIRST, FIRST + 1]);
    expect(tokenizer.encode('宝')).toEqual([0xe5, 0xae, 0x9d].map((byte) => 2 + byte));
    expect(tokenizer.encode('\0')).toEqual([2]);
  });

  it('leave user-defined pieces alone', () => {
    const pieces = [piece('a'), piece('ab', -1), piece('b', 0, 4), piece('bab', 0, 4)];
    const tokenizer = load(bytesOf(model(...pieces)));
    expect(tokenizer.encode('ab')).toEqual([FIRST, FIRST + 2]);
    expect(tokenizer.encode('abab')).toEqual([FIRST, FIRST + 3]);
    expect(tokenizer.decode(tokenizer.encode('abab'))).toBe('abab');
  });
});

describe('a model is refused by name', () => {
  const changed = (change: (message: Model) => unknown) => () => {
    const message = model(piece('a'));
    change(message);
    return bytesOf(message);
  };
  const cases: [string, () => Uint8Array, string][] = [
    ['no model at all', () => new TextEncoder().encode('{"version":"1.0"}'), 'not a Sentence'],
    ['an empty file', () => new Uint8Array(), 'no pieces'],
    ['a large file', () => new Uint8Array((16 << 20) + 1), 'at most 16777216 are read'],
    ['half a file', () => read('plain.model').slice(0, 9001), 'not a SentencePiece model'],
    ['unigram', changed((m) => (m.trainer = { modelType: 1 })), 'model_type UNIGRAM'],
    ['no trainer', changed((m) => delete m.trainer), 'no trainer_spec: the file ends early'],
    ['no bytes', changed((m) => (m.trainer = { modelType: 2 })), 'byte_fallback is off'],
    ['a suffix', changed((m) => (m.trainer = { ...m.trainer, suffix: true })), 'as_suffix'],
    [
      'NFKC',
      changed((m) => {
        m.normalizer = { ...m.normalizer, name: 'nmt_nfkc', charsmap: Uint8Array.of(1) };
      }),
      'normalizer nmt_nfkc is not supported; convert reads identity',
    ],
    ['no normalizer', changed((m) => delete m.normalizer), 'normalizer nmt_nfkc'],
    [
      'fewer spaces',
      changed((m) => (m.normalizer = { name: 'identity' })),
      'remove_extra_whitespaces',
    ],
    [
      'spaces as they are',
      changed((m) => (m.normalizer = { ...m.normalizer, escape: false })),
      'escape_whitespaces is off',
    ],
    [
      'a denormalizer',
      changed((m) => (m.denormalizer = { charsmap: Uint8Array.of(1) })),
      'denormalizer_spec',
    ],
    ['unused pieces', changed((m) => m.pieces.push(piece('b', 0, 5))), '"b" is unused'],
    ['pieces of kind 9', changed((m) => m.pieces.push(piece('b', 0, 9))), '"b" is of kind 9'],
    ['a byte less', changed((m) => m.pieces.splice(20, 1)), 'not all of the 256 bytes'],
    ['a strange byte', changed((m) => m.pieces.push(piece('x', 0, 6))), '"x" is a byte, but'],
    ['no unknown piece', changed((m) => m.pieces.shift()), 'is the unknown one'],
    [
      'a piece that is no text',
      changed((m) => m.pieces.push({ piece: Uint8Array.of(0xff), score: 0 })),
      'is not UTF-8',
    ],
    ['a piece twice', changed((m) => m.pieces.push(piece('a'))), '"a" stands twice'],
    ['an empty piece', changed((m) => m.pieces.push(piece(''))), 'pieces.259'],
    ['a piece without a text', changed((m) => m.pieces.push({ score: 0 })), 'pieces.259'],
    [
      'an unused piece without a text',
      changed((m) => m.pieces.push({ score: 0, type: 5 })),
      '"" is unused',
    ],
    ['a score that is none', changed((m) => m.pieces.push(piece('b', NaN))), 'scores'],
    [
      'a control of one character',
      changed((m) => m.pieces.push(piece('b', 0, 3))),
      '"b" is a single character',
    ],
  ];
  it.each(cases)('with %s', (_, bytes, message) => {
    expect(() => load(bytes())).toThrow(message);
  });
});
