import * as v from 'valibot';
import { Failure } from '../../src/failure.ts';
import { KIND, type SentencePieceVocab } from './sentencepiece.ts';

/**
 * Tokens that a checkpoint adds to its SentencePiece model: `added_tokens.json` {text: id},
 * `added_tokens_decoder` of tokenizer_config.json {id: {content, special, ...}}, and what
 * tokenizer_config.json or special_tokens_map.json call a special token (`bos_token` ...,
 * `additional_special_tokens`), as Hugging Face transformers writes them.
 */

/** Of the files, what is there; null where a file is not. */
export interface AddedTokenFiles {
  readonly 'added_tokens.json': unknown;
  readonly 'tokenizer_config.json': unknown;
  readonly 'special_tokens_map.json': unknown;
}

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** No text of a person's becomes it. */
  readonly special: boolean;
}

const id = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const added = v.record(v.string(), id);
const no = v.optional(v.literal(false, 'only false is supported'), false);
const decoder = v.record(
  v.pipe(v.string(), v.regex(/^\d{1,9}$/, 'no id')),
  v.looseObject({
    content: v.string(),
    special: v.optional(v.boolean(), false),
    // Each would take neighbours of the token along, or want some.
    lstrip: no,
    rstrip: no,
    single_word: no,
  }),
);
const named = v.union([v.string(), v.looseObject({ content: v.string() })]);
const config = v.looseObject({
  added_tokens_decoder: v.optional(decoder, {}),
  additional_special_tokens: v.optional(v.nullable(v.array(named))),
});
const SPECIAL_FIELDS = ['bos', 'eos', 'unk', 'pad', 'sep', 'cls', 'mask'].map(
  (one) => `${one}_token`,
);

/** @throws Failure BadTokenizer that names the file: not of the form above, or ids that clash */
export function readAddedTokens(files: AddedTokenFiles): readonly AddedToken[] {
  const about = check(config, files['tokenizer_config.json'] ?? {}, 'tokenizer_config.json');
  const map = check(config, files['special_tokens_map.json'] ?? {}, 'special_tokens_map.json');
  const special = new Set([about, map].flatMap(specialTexts));
  const byId = new Map<number, AddedToken>();
  const byText = new Map<string, number>();
  const add = (token: AddedToken, file: string): void => {
    const { content } = token;
    const known = byId.get(token.id);
    if (known !== undefined && known.content !== content) {
      throw bad(
        `${file}: id ${token.id} is ${quote(content)}, and ${quote(known.content)} elsewhere`,
      );
    }
    const other = byText.get(content) ?? token.id;
    if (other !== token.id) {
      throw bad(`${file}: ${quote(content)} has id ${token.id}, and ${other} elsewhere`);
    }
    if (content === '') throw bad(`${file}: id ${token.id} has no text`);
    byId.set(token.id, { ...token, special: token.special || known?.special === true });
    byText.set(content, token.id);
  };
  for (const [key, { content, special: flag }] of Object.entries(about.added_tokens_decoder)) {
    const token = { id: Number(key), content, special: flag || special.has(content) };
    add(token, 'tokenizer_config.json: added_tokens_decoder');
  }
  const plain = check(added, files['added_tokens.json'] ?? {}, 'added_tokens.json');
  for (const [content, own] of Object.entries(plain)) {
    add({ id: own, content, special: special.has(content) }, 'added_tokens.json');
  }
  return [...byId.values()].sort((a, b) => a.id - b.id);
}

/** Texts that the fields of a file name. */
function specialTexts(file: v.InferOutput<typeof config>): string[] {
  const { additional_special_tokens: more } = file;
  const values: unknown[] = [...SPECIAL_FIELDS.map((field) => file[field]), ...(more ?? [])];
  return values.flatMap((value) => {
    const read = v.safeParse(named, value);
    if (!read.success) return []; // not there, or null
    return typeof read.output === 'string' ? [read.output] : [read.output.content];
  });
}

/**
 * A vocabulary with added tokens: those that the model has are taken out of a text before anything
 * is merged; those that it has not follow its pieces.
 * @throws Failure BadTokenizer: an id that means another piece, a text that has another id, a gap
 */
export function withAddedTokens(
  vocab: SentencePieceVocab,
  tokens: readonly AddedToken[],
): SentencePieceVocab {
  const [pieces, kinds, scores] = [[...vocab.pieces], [...vocab.kinds], [...vocab.scores]];
  const ids = new Map(pieces.map((piece, own) => [piece, own]));
  for (const { id: own, content, special } of tokens) {
    const known = ids.get(content) ?? own;
    if (known !== own) {
      throw bad(`added token ${quote(content)} has id ${own}, in tokenizer.model ${known}`);
    }
    if (own < vocab.pieces.length) {
      const piece = pieces[own] ?? '';
      if (piece !== content) {
        const what = `id ${own} is ${quote(piece)} in tokenizer.model`;
        throw bad(`added token ${quote(content)}: ${what}`);
      }
      const kind = kinds[own] ?? 0;
      if (kind === KIND.byte)
        throw bad(`added token ${quote(content)} is a byte of tokenizer.model`);
      if (kind === KIND.unknown || kind === KIND.control) continue;
      kinds[own] = special ? KIND.control : KIND.userDefined;
      continue;
    }
    if (own !== pieces.length) {
      const gap =
        own - pieces.length === 1 ? `id ${pieces.length} is` : `ids from ${pieces.length} on are`;
      throw bad(`added token ${quote(content)} has id ${own}, but ${gap} nothing`);
    }
    pieces.push(content);
    kinds.push(special ? KIND.control : KIND.userDefined);
    scores.push(0);
  }
  return { ...vocab, pieces, kinds, scores };
}

function check<T>(schema: v.GenericSchema<unknown, T>, json: unknown, file: string): T {
  const result = v.safeParse(schema, json);
  if (result.success) return result.output;
  const issue = result.issues[0];
  throw bad(`${file}: ${v.getDotPath(issue) ?? 'file'}: ${issue.message}`);
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 80));
}

function bad(what: string): Failure {
  return new Failure('BadTokenizer', what);
}
