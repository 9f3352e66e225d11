import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Tokenizer } from '../../src/text/tokenizer.ts';
import { openCheckpoint } from '../checkpoint.ts';
import { checkpointFiles, config, folderOf, without } from '../testing.ts';
import { failure } from '../testing-run.ts';
import { readAddedTokens, withAddedTokens } from './added-tokens.ts';
import { sentencePieceTokenizer } from './sentencepiece.ts';

const model = new Uint8Array(
  readFileSync(join(import.meta.dirname, '../fixtures/sentencepiece/plain.model')),
);
const plain = Tokenizer.fromBytes(new TextEncoder().encode(sentencePieceTokenizer(model)));
const V = plain.vocab;
const { pieces } = JSON.parse(sentencePieceTokenizer(model)) as { pieces: string[] };
const byteA = pieces.indexOf('<0x41>');

/** A folder with that model and other files beside it. */
async function folderWith(files: Record<string, unknown>): Promise<string> {
  return folderOf({
    ...without(checkpointFiles(), 'tokenizer.json'),
    'tokenizer.model': model,
    'config.json': { ...config, vocab_size: V + 8 },
    ...files,
  });
}

/** The tokenizer that convert makes of it. */
async function tokenizerOf(files: Record<string, unknown>): Promise<Tokenizer> {
  const checkpoint = await openCheckpoint(await folderWith(files));
  await checkpoint.close();
  return checkpoint.tokenizer;
}

const decoder = (tokens: Record<string, object>) => ({
  'tokenizer_config.json': { tokenizer_class: 'X', added_tokens_decoder: tokens },
});
const token = (content: string, more: object = {}) => ({ content, special: false, ...more });

describe('added tokens beside a SentencePiece model', () => {
  it('follow its pieces; special ones count in a template only', async () => {
    const tokenizer = await tokenizerOf({
      'added_tokens.json': { '<|im_start|>': V, '[体温]': V + 1, '<pad>': V + 2 },
      'special_tokens_map.json': {
        pad_token: { content: '<pad>', lstrip: false },
        additional_special_tokens: ['<|im_start|>'],
        mask_token: null,
      },
    });
    expect(tokenizer.vocab).toBe(V + 3);
    const [before, after] = [plain.encode('宝宝'), plain.encode('度')];
    expect(tokenizer.encode('宝宝[体温]度')).toEqual([...before, V + 1, ...after]);
    expect(tokenizer.decode([...before, V + 1, V, V + 2])).toBe('宝宝[体温]');
    for (const special of ['<|im_start|>', '<pad>']) {
      expect(tokenizer.encode(special)).toEqual(plain.encode(special));
    }
    expect(tokenizer.encodeTemplate('<|im_start|>宝宝<pad>')).toEqual([V, ...before, V + 2]);
  });

  it('may be told by tokenizer_config.json alone, or by both alike', async () => {
    const first = decoder({
      1: token('<s>', { special: true }),
      [V]: token('<|end_of_turn|>', { special: true }),
    });
    for (const files of [first, { ...first, 'added_tokens.json': { '<|end_of_turn|>': V } }]) {
      const tokenizer = await tokenizerOf(files);
      expect(tokenizer.vocab).toBe(V + 1);
      expect(tokenizer.encodeTemplate('<|end_of_turn|>')).toEqual([V]);
      expect(tokenizer.encodeTemplate('<s>')).toEqual([1]);
    }
  });

  it('that the model has already are taken out of a text before anything merges', () => {
    const text = '宝宝';
    const id = plain.encode(text)[0] ?? 0;
    const piece = String(plain.meaning(id));
    const vocab = JSON.parse(sentencePieceTokenizer(model)) as { user_defined: number[] };
    expect(vocab.user_defined).not.toContain(id);
    const changed = (special: boolean) =>
      JSON.parse(
        sentencePieceTokenizer(model, (old) =>
          withAddedTokens(old, [{ id, content: piece, special }]),
        ),
      ) as { user_defined: number[]; special: number[] };
    expect(changed(false).user_defined).toContain(id);
    expect(changed(true).special).toContain(id);
    expect(changed(true).user_defined).not.toContain(id);
  });

  it('are part of what identifies the checkpoint', async () => {
    const folder = await folderWith({ 'added_tokens.json': { x1: V } });
    const checkpoint = await openCheckpoint(folder);
    await checkpoint.close();
    expect(checkpoint.files).toContain('tokenizer.model');
    expect(checkpoint.files).toContain('added_tokens.json');
    expect(checkpoint.files).not.toContain('tokenizer_config.json');
  });

  it.each<[string, Record<string, unknown>, string]>([
    ['an id of another piece', { 'added_tokens.json': { '<new>': 5 } }, 'id 5 is'],
    [
      'a piece with another id',
      { 'added_tokens.json': { '<s>': V } },
      `"<s>" has id ${V}, in tokenizer.model 1`,
    ],
    [
      'a gap',
      { 'added_tokens.json': { '<new>': V + 1 } },
      `has id ${V + 1}, but id ${V} is nothing`,
    ],
    [
      'one id twice',
      { 'added_tokens.json': { a1: V, b1: V } },
      `added_tokens.json: id ${V} is "b1", and "a1" elsewhere`,
    ],
    [
      'two files that disagree about an id',
      { 'added_tokens.json': { a1: V }, ...decoder({ [V]: token('b1') }) },
      `id ${V} is "a1", and "b1" elsewhere`,
    ],
    [
      'two files that disagree about a text',
      { 'added_tokens.json': { a1: V }, ...decoder({ [V + 1]: token('a1') }) },
      `"a1" has id ${V}, and ${V + 1} elsewhere`,
    ],
    [
      'a byte',
      { 'added_tokens.json': { '<0x41>': byteA } },
      '"<0x41>" is a byte of tokenizer.model',
    ],
    ['no text', { 'added_tokens.json': { '': V } }, `id ${V} has no text`],
    ['an id that is none', { 'added_tokens.json': { a1: -1 } }, 'added_tokens.json: a1: '],
    [
      'white space that it takes along',
      decoder({ [V]: token('a1', { lstrip: true }) }),
      `tokenizer_config.json: added_tokens_decoder.${V}.lstrip: only false is supported`,
    ],
    ['no content', decoder({ [V]: { special: true } }), `added_tokens_decoder.${V}.content`],
    ['a key that is no id', decoder({ x: token('a1') }), 'added_tokens_decoder.x: no id'],
  ])('are refused with %s', async (_, files, message) => {
    const found = await failure(tokenizerOf(files));
    expect(found).toMatch(/^BadTokenizer: .*tokenizer\.model: /);
    expect(found).toContain(message);
  });

  it('cannot be more than the model has rows', async () => {
    const many = Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`<x${i}>`, V + i]));
    expect(await failure(tokenizerOf({ 'added_tokens.json': many }))).toContain(
      `the tokenizer has ${V + 9} pieces, the model has ${V + 8} rows`,
    );
  });

  it('are none where no file names one', () => {
    const none = { 'added_tokens.json': null, 'tokenizer_config.json': null };
    expect(readAddedTokens({ ...none, 'special_tokens_map.json': null })).toEqual([]);
  });
});
