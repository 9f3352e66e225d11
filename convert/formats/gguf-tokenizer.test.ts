import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Tokenizer } from '../../src/text/tokenizer.ts';
import { ggufTokenizer } from './gguf-tokenizer.ts';
import { openGguf } from './gguf.ts';
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
    [{ 'tokenizer.ggml.model': [8, 'llama'] }, /llama tokenizer, qwen2; convert makes one of gpt2/],
    [{ 'tokenizer.ggml.pre': [8, 'tekken'] }, /gpt2 tokenizer, tekken; .* put the tokenizer\.json/],
    [{ 'tokenizer.ggml.tokens': [5, 1] }, /tokens is no list of texts/],
    [{ 'tokenizer.ggml.tokens': [9, ['a', 'a']] }, /a piece stands twice/],
  ] as const)('is refused with %j', async (changes, message) => {
    const metadata = metadataOf(read('byte-qwen2.json') as TokenizerJson, 'qwen2');
    await expect(made({ ...metadata, ...(changes as GgufParts['metadata']) })).rejects.toThrow(
      message,
    );
  });

  it('may be missing altogether', async () => {
    await expect(made({})).rejects.toThrow('GGUF: no tokenizer; convert makes one of');
  });
});
