import type { Gguf, GgufValue } from './gguf.ts';
import { Failure, failureName } from '../../src/failure.ts';
import { sentencePieceJson } from './sentencepiece.ts';
import { bad } from './stored.ts';

/**
 * The tokenizer.json that the metadata of a GGUF file stands for (llama-vocab.cpp of llama.cpp). A
 * byte-level one is pieces with their kinds, merges, and the name of the cut; `llama` is a
 * SentencePiece model: pieces with scores and kinds.
 */

const CUTS: ReadonlyMap<GgufValue, { digits: string; compose: boolean; whole: boolean }> = new Map([
  ['qwen2', { digits: '\\p{N}', compose: true, whole: false }],
  ['llama-bpe', { digits: '\\p{N}{1,3}', compose: false, whole: true }],
]);
/** Kinds of pieces, enum llama_token_type. */
const NORMAL = 1;
const USER_DEFINED = 4;
const UNUSED = 5;
const BESIDE = 'put the tokenizer.json of the model beside the GGUF file';

/** @returns the JSON text. @throws Failure BadCheckpoint for another kind of tokenizer */
export function ggufTokenizer({ metadata }: Gguf): string {
  const [kind, name] = ['model', 'pre'].map((key) => metadata.get(`tokenizer.ggml.${key}`));
  if (kind === 'llama') return fromSentencePiece(metadata);
  const cut = kind === 'gpt2' && name !== undefined ? CUTS.get(name) : undefined;
  if (cut === undefined) {
    const found = `${String(kind ?? 'no')} tokenizer${name === undefined ? '' : `, ${String(name)}`}`;
    const known = [...CUTS.keys()].map((one) => `gpt2, ${String(one)}`).join(' or ');
    throw bad(`GGUF: ${found}; convert makes one of llama or ${known}: ${BESIDE}`);
  }
  const tokens = texts(metadata, 'tokens');
  const merges = texts(metadata, 'merges');
  const kinds = metadata.get('tokenizer.ggml.token_type');
  const kindOf = (id: number) => (typeof kinds === 'object' ? kinds[id] : NORMAL) ?? NORMAL;
  const count = usedCount(tokens, kindOf);
  const used = tokens.slice(0, count);
  if (new Set(used).size !== count) throw bad('GGUF: tokenizer.ggml.tokens: a piece stands twice');
  const added = used.flatMap((content, id) =>
    kindOf(id) === NORMAL
      ? []
      : [
          {
            id,
            content,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: kindOf(id) !== USER_DEFINED,
          },
        ],
  );
  const level = {
    type: 'ByteLevel',
    add_prefix_space: false,
    trim_offsets: false,
    use_regex: false,
  };
  const regex = String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|${cut.digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
  const split = { type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false };
  return JSON.stringify({
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: added,
    normalizer: cut.compose ? { type: 'NFC' } : null,
    pre_tokenizer: { type: 'Sequence', pretokenizers: [split, level] },
    post_processor: null,
    decoder: level,
    model: {
      type: 'BPE',
      ignore_merges: cut.whole,
      vocab: Object.fromEntries(used.map((piece, id) => [piece, id])),
      merges,
    },
  });
}

function fromSentencePiece(metadata: Gguf['metadata']): string {
  const tokens = texts(metadata, 'tokens');
  const [kinds, scores] = [numbers(metadata, 'token_type'), numbers(metadata, 'scores')];
  const count = usedCount(tokens, (id) => kinds[id] ?? NORMAL);
  const dummyPrefix = metadata.get('tokenizer.ggml.add_space_prefix') ?? true;
  try {
    return sentencePieceJson({
      dummyPrefix: dummyPrefix !== false,
      pieces: tokens.slice(0, count),
      kinds: kinds.slice(0, count),
      scores: scores.slice(0, count),
    });
  } catch (cause) {
    if (failureName(cause) !== 'BadTokenizer' || !(cause instanceof Error)) throw cause;
    throw new Failure('BadCheckpoint', `GGUF: ${cause.message}; ${BESIDE}`, { cause });
  }
}

/** Rows of the model that no text needs come last: so many are left. */
function usedCount(tokens: readonly string[], kindOf: (id: number) => GgufValue): number {
  let count = tokens.length;
  while (count > 0 && kindOf(count - 1) === UNUSED) count--;
  return count;
}

function numbers(metadata: Gguf['metadata'], key: string): readonly number[] {
  const list = metadata.get(`tokenizer.ggml.${key}`);
  if (typeof list === 'object' && list.every((one) => typeof one === 'number')) return list;
  throw bad(`GGUF: tokenizer.ggml.${key} is no list of numbers; ${BESIDE}`);
}

function texts(metadata: Gguf['metadata'], key: string): readonly string[] {
  const list = metadata.get(`tokenizer.ggml.${key}`);
  if (typeof list === 'object' && list.every((one) => typeof one === 'string')) return list;
  throw bad(`GGUF: tokenizer.ggml.${key} is no list of texts; ${BESIDE}`);
}
