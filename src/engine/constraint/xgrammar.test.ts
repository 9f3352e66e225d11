import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { Failure } from '../../failure.ts';
import { Tokenizer } from '../../text/tokenizer.ts';
import type { OutputFormat } from '../../worker/api.ts';
import { END, setup, tokenizer } from '../testing.ts';
import { checkFormat, isAllowed, piecesOf } from './constraint.ts';

beforeAll(() => {
  // What the library's script looks for in Node; the command line has `script-globals.ts`.
  const path = import.meta.filename;
  Object.assign(globalThis, { require: createRequire(path), __filename: path, __dirname: path });
});

const triage = {
  type: 'object',
  properties: {
    urgency: { enum: ['立即就医', '尽快就诊', '可以观察'] },
    days: { type: 'integer' },
    signs: { type: 'array', items: { enum: ['发热', '咳嗽'] }, maxItems: 2 },
  },
  required: ['urgency', 'days', 'signs'],
  additionalProperties: false,
};
const json: OutputFormat = { kind: 'json', schema: triage };

describe('an answer with a format', () => {
  it('follows a JSON schema, whatever the model would rather say', async () => {
    const { ask } = setup('多喝水，注意休息。');
    let finished = 0;
    for (let seed = 0; seed < 8; seed++) {
      const sampling = {
        temperature: 2,
        topK: 0,
        topP: 1,
        repetitionPenalty: 1.1,
        maxTokens: 90,
      };
      const result = await ask('问', { format: json, seed, sampling });
      expect(result.text).toMatch(/^\{"urgency":"(立即就医|尽快就诊|可以观察)","days":/);
      if (result.finish !== 'stop') continue;
      finished += 1;
      const said = JSON.parse(result.text) as Record<string, unknown>;
      expect(Object.keys(said)).toEqual(['urgency', 'days', 'signs']);
      expect(triage.properties.urgency.enum).toContain(said['urgency']);
      expect(Number.isInteger(said['days'])).toBe(true);
      expect(result.text).not.toMatch(/\s/);
    }
    expect(finished).toBeGreaterThan(0);
  });

  it('matches a regular expression as a whole, and then ends', async () => {
    const { ask } = setup('多喝水，注意休息。');
    const format: OutputFormat = { kind: 'regex', pattern: '(男|女)，[0-9]{1,2}岁' };
    for (let seed = 0; seed < 6; seed++) {
      const sampling = { temperature: 1, topK: 0, topP: 1, repetitionPenalty: 1, maxTokens: 40 };
      const result = await ask('问', { format, seed, sampling });
      expect(result.finish).toBe('stop');
      expect(result.text).toMatch(/^(男|女)，[0-9]{1,2}岁$/);
    }
  });

  it('is what the model says where that fits', async () => {
    const { ask } = setup([...tokenizer.encode('女，3岁'), END]);
    const format: OutputFormat = { kind: 'regex', pattern: '(男|女)，[0-9]{1,2}岁' };
    expect((await ask('问', { format })).text).toBe('女，3岁');
  });

  it('goes by bytes where the tokenizer is byte-level', async () => {
    const file = new URL('../../text/testdata/byte-qwen2.json', import.meta.url);
    const byteLevel = Tokenizer.fromBytes(readFileSync(file));
    const [end = 0] = byteLevel.encodeTemplate('<|endoftext|>');
    const { openConstrainer } = await import('./xgrammar.ts');
    const constrainer = await openConstrainer(byteLevel, [end]);
    const constraint = await constrainer.constrain({ kind: 'regex', pattern: '(男|女)，[0-9]岁' });
    const tokens = [...byteLevel.encode('女，3岁'), end];
    expect(tokens.some((token) => typeof byteLevel.meaning(token) !== 'string')).toBe(true);
    const [a = 0] = byteLevel.encode('a');
    for (const token of tokens) {
      const allowed = await constraint.allowed();
      expect([isAllowed(allowed, token), isAllowed(allowed, a)]).toEqual([true, false]);
      constraint.accept(token);
    }
    constraint.dispose();
  });

  it('ends unfinished where there are too few tokens for it', async () => {
    const { ask } = setup('好');
    const sampling = { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, maxTokens: 3 };
    expect((await ask('问', { format: json, sampling })).finish).toBe('length');
  });

  it('leaves answers without one as they are', async () => {
    const { ask } = setup('多喝水，注意休息。');
    await ask('问', { format: json });
    expect((await ask('问')).text).toBe('多喝水，注意休息。');
  });

  it('is refused where it is none, and the next one works', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => undefined); // the library's own words
    const { ask } = setup('好');
    const broken: OutputFormat[] = [
      { kind: 'regex', pattern: '[0-' },
      { kind: 'regex', pattern: 'a'.repeat(20_000) },
      { kind: 'json', schema: { type: 'nonsense' } },
      { kind: 'json', schema: [] as unknown as Record<string, unknown> },
    ];
    for (const format of broken) {
      await expect(ask('问', { format })).rejects.toMatchObject({ name: 'Usage' });
    }
    const format: OutputFormat = { kind: 'regex', pattern: '是|否' };
    expect((await ask('问', { format })).text).toMatch(/^[是否]$/);
  });
});

it('gives the library every piece as it reads them', () => {
  const pieces = piecesOf(tokenizer);
  expect(pieces).toHaveLength(tokenizer.vocab);
  expect(pieces[3 + 0x0a]).toBe('<0x0A>');
  expect(pieces[END]).toBe('');
  const [water] = tokenizer.encode('水');
  expect(pieces[water ?? -1]).toBe('水');
});

it('reads bits', () => {
  const bits = new Int32Array([1 << 31, 2]);
  expect([30, 31, 32, 33, 64].map((t) => isAllowed(bits, t))).toEqual([
    false,
    true,
    false,
    true,
    false,
  ]);
  expect(() => {
    checkFormat({ kind: 'regex', pattern: '(' });
  }).toThrow(Failure);
});
