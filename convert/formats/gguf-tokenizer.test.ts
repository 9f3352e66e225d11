import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Tokenizer } from '../../src/text/tokenizer.ts';
import { ggufTokenizer } from './gguf-tokenizer.ts';
import { openGguf } from './gguf.ts';
import { sentencePieceTokenizer } from './sentencepiece.ts';
import { ggufOf, memorySource, type GgufParts } from './testing.ts';

interface TokenizerJson {
  readonly added_tokens: { id: number; content: string; special: boolean }[];
  readonly model: { vocab: Record<string, number>; merges: [string, string][] };
}
const read = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`../../src/text/testdata/${name}`, import.meta.url), 'utf8'));
const cases = read('byte-cases.json') as { texts: string[] };

/** The metadata that llama.cpp's converter makes of a tokenizer.json. */
function metadataOf(file: TokenizerJson, pre: string): NonNullable<GgufParts['metadata']> {
  const pieces = Object.keys(file.model.vocab);
  pieces.sort((a, b) => (file.model.vocab[a] ?? 0) - (file.model.vocab[b] ?? 0));
  const kinds = pieces.map(() => 1);
  for (const { id, content, special } of file.added_tokens) {
    pieces[id] = content;
    kinds[id] = special ? 3 : 4;
  }
  const unused = ['[PAD705]', '[PAD706]'];
  return {
    'tokenizer.ggml.model': [8, 'gpt2'],
    'tokenizer.ggml.pre': [8, pre],
    'tokenizer.ggml.tokens': [9, [...pieces, ...unused]],
    'tokenizer.ggml.token_type': [9, [...kinds, 5, 5]],
    'tokenizer.ggml.merges': [9, file.model.merges.map((merge) => merge.join(' '))],
  };
}

async function made(metadata: NonNullable<GgufParts['metadata']>): Promise<Tokenizer> {
  const text = ggufTokenizer(await openGguf(memorySource(ggufOf({ metadata }))));
  return Tokenizer.fromBytes(new TextEncoder().encode(text));
}

describe('the tokenizer of a GGUF file', () => {
  it.each([
    ['byte-qwen2.json', 'qwen2'],
    ['byte-llama3.json', 'llama-bpe'],
  ])('gives the tokens that %s gives', async (name, pre) => {
    const file = read(name) as TokenizerJson;
    const [own, original] = [await made(metadataOf(file, pre)), Tokenizer.parse(file)];
    expect(own.vocab).toBe(original.vocab);
    for (const text of cases.texts) {
      expect(own.encode(text), text).toEqual(original.encode(text));
      expect(own.encodeTemplate(text), text).toEqual(original.encodeTemplate(text));
    }
    for (let id = 0; id < own.vocab; id++) expect(own.meaning(id)).toEqual(original.meaning(id));
  });

  it.each([
    [{ 'tokenizer.ggml.model': [8, 't5'] }, /t5 tokenizer, qwen2; convert makes one of llama or/],
    [{ 'tokenizer.ggml.model': [8, 'llama'] }, /scores is no list of numbers; put the tokenizer/],
    [{ 'tokenizer.ggml.pre': [8, 'tekken'] }, /gpt2 tokenizer, tekken; .* put the tokenizer\.json/],
    [{ 'tokenizer.ggml.tokens': [5, 1] }, /tokens is no list of texts/],
    [{ 'tokenizer.ggml.tokens': [9, ['a', 'a']] }, /a piece stands twice/],
  ] as const)('is refused with %j', async (changes, message) => {
    const metadata = metadataOf(read('byte-qwen2.json') as TokenizerJson, 'qwen2');
    await expect(made({ ...metadata, ...(changes as GgufParts['metadata']) })).rejects.toThrow(
      message,
    );
  });

  it('of SentencePiece gives the tokens that its tokenizer.model gives', async () => {
    for (const name of ['plain', 'prefix', 'ties']) {
      const file = new URL(`../fixtures/sentencepiece/${name}.model`, import.meta.url);
      const text = sentencePieceTokenizer(new Uint8Array(readFileSync(file)));
      const { pieces, scores, ...json } = JSON.parse(text) as {
        pieces: string[];
        scores: number[];
        special: number[];
        user_defined: number[];
      };
      const kindOf = (piece: string, id: number) => {
        if (json.special.includes(id)) return id === 0 ? 2 : 3;
        if (json.user_defined.includes(id)) return 4;
        return piece.startsWith('<0x') ? 6 : 1;
      };
      const own = await made({
        'tokenizer.ggml.model': [8, 'llama'],
        'tokenizer.ggml.pre': [8, 'default'],
        'tokenizer.ggml.tokens': [9, [...pieces, '[PAD2000]']],
        'tokenizer.ggml.scores': [9, [...scores, -1000]],
        'tokenizer.ggml.token_type': [9, [...pieces.map(kindOf), 5]],
        ...(name === 'prefix' ? {} : { 'tokenizer.ggml.add_space_prefix': [7, 0] }),
      });
      const original = Tokenizer.fromBytes(new TextEncoder().encode(text));
      expect(own.vocab).toBe(original.vocab);
      for (const one of cases.texts) expect(own.encode(one), one).toEqual(original.encode(one));
    }
  });

  it('may be missing altogether', async () => {
    await expect(made({})).rejects.toThrow('GGUF: no tokenizer; convert makes one of');
  });
});
