import protobuf from 'protobufjs/light.js';
import { Failure } from '../../src/failure.ts';
import { SPACE } from '../../src/text/sentencepiece.ts';

/**
 * SentencePiece's tokenizer.model as the tokenizer.json that the browser reads. Field numbers,
 * defaults and enums are those of
 * https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto. What would
 * make other tokens of a text, and what the browser cannot do, is refused by its name.
 */

const field = (type: string, id: number, value?: unknown) =>
  value === undefined ? { type, id } : { type, id, options: { default: value } };

/** SentencePiece.Type. */
export const KIND = {
  normal: 1,
  unknown: 2,
  control: 3,
  userDefined: 4,
  unused: 5,
  byte: 6,
} as const;
const BPE = 2;
const MODEL_TYPES: Readonly<Record<number, string>> = { 1: 'UNIGRAM', 3: 'WORD', 4: 'CHAR' };

/** Without it, a field that is there and false would be read as one that is not there. */
const edition = 'proto2';
const root = protobuf.Root.fromJSON({
  nested: {
    ModelProto: {
      edition,
      fields: {
        pieces: { ...field('SentencePiece', 1), rule: 'repeated' },
        trainerSpec: field('TrainerSpec', 2),
        normalizerSpec: field('NormalizerSpec', 3),
        denormalizerSpec: field('NormalizerSpec', 5),
      },
    },
    // Texts are read as bytes, so that what is not UTF-8 is noticed.
    SentencePiece: {
      edition,
      fields: {
        piece: field('bytes', 1),
        score: field('float', 2, 0),
        type: field('int32', 3, KIND.normal),
      },
    },
    TrainerSpec: {
      edition,
      fields: {
        modelType: field('int32', 3, 1),
        treatWhitespaceAsSuffix: field('bool', 24, false),
        byteFallback: field('bool', 35, false),
      },
    },
    NormalizerSpec: {
      edition,
      fields: {
        name: field('bytes', 1),
        precompiledCharsmap: field('bytes', 2),
        addDummyPrefix: field('bool', 3, true),
        removeExtraWhitespaces: field('bool', 4, true),
        escapeWhitespaces: field('bool', 5, true),
      },
    },
  },
});
const modelType = root.lookupType('ModelProto');

interface PieceMessage {
  readonly piece: Uint8Array;
  readonly score: number;
  readonly type: number;
}
interface NormalizerMessage {
  readonly name: Uint8Array;
  readonly precompiledCharsmap: Uint8Array;
  readonly addDummyPrefix: boolean;
  readonly removeExtraWhitespaces: boolean;
  readonly escapeWhitespaces: boolean;
}
interface ModelMessage {
  readonly pieces: readonly PieceMessage[];
  readonly trainerSpec: {
    readonly modelType: number;
    readonly treatWhitespaceAsSuffix: boolean;
    readonly byteFallback: boolean;
  } | null;
  readonly normalizerSpec: NormalizerMessage | null;
  readonly denormalizerSpec: NormalizerMessage | null;
}

/** Nothing larger is read: the models of large vocabularies have some 4 MB. */
export const MAX_MODEL_BYTES = 16 << 20;

/**
 * The JSON text that a tokenizer.model stands for.
 * @param change what else a checkpoint says about its pieces
 * @throws Failure BadTokenizer, without the file's name: not a model, or one that is not supported
 */
export function sentencePieceTokenizer(
  bytes: Uint8Array,
  change: (vocab: SentencePieceVocab) => SentencePieceVocab = (vocab) => vocab,
): string {
  const { pieces, trainerSpec, normalizerSpec, denormalizerSpec } = decode(bytes);
  if (pieces.length === 0) throw bad('no pieces: not a SentencePiece model');
  refuse(trainerSpec, normalizerSpec, denormalizerSpec);
  const vocab = {
    dummyPrefix: normalizerSpec?.addDummyPrefix ?? true,
    pieces: pieces.map(({ piece }) => textOf(piece)),
    kinds: pieces.map(({ type }) => type),
    scores: pieces.map(({ score }) => score),
  };
  return sentencePieceJson(change(vocab));
}

/** What a tokenizer.model and the metadata of a GGUF file both say. */
export interface SentencePieceVocab {
  readonly dummyPrefix: boolean;
  readonly pieces: readonly string[];
  readonly kinds: readonly number[]; // SentencePiece.Type
  readonly scores: readonly number[];
}

/** The JSON text of tokenizer.json. @throws Failure BadTokenizer, without the file's name */
export function sentencePieceJson({
  dummyPrefix,
  pieces,
  kinds,
  scores,
}: SentencePieceVocab): string {
  const ofKind = (...wanted: readonly number[]) =>
    kinds.flatMap((kind, id) => (wanted.includes(kind) ? [id] : []));
  const strange = kinds.findIndex((kind) => kind === KIND.unused || !(kind >= 1 && kind <= 6));
  if (strange >= 0) {
    const kind = kinds[strange] === KIND.unused ? 'unused' : `of kind ${kinds[strange]}`;
    throw bad(`piece ${JSON.stringify(pieces[strange])} is ${kind}, which convert does not know`);
  }
  for (const id of ofKind(KIND.byte)) {
    if (/^<0x[0-9A-F]{2}>$/.test(pieces[id] ?? '')) continue;
    throw bad(`piece ${JSON.stringify(pieces[id])} is a byte, but not called <0x00> to <0xFF>`);
  }
  if (ofKind(KIND.byte).length !== 256) throw bad('not all of the 256 bytes are pieces');
  if (ofKind(KIND.unknown).length !== 1) throw bad('not exactly one piece is the unknown one');
  return JSON.stringify({
    version: '1.0',
    type: 'sentencepiece-bpe',
    dummy_prefix: dummyPrefix,
    special: ofKind(KIND.unknown, KIND.control),
    user_defined: ofKind(KIND.userDefined),
    pieces,
    scores,
  });
}

function decode(bytes: Uint8Array): ModelMessage {
  if (bytes.length > MAX_MODEL_BYTES) {
    throw bad(`${bytes.length} bytes, at most ${MAX_MODEL_BYTES} are read`);
  }
  try {
    // A decoded message has the defaults of absent fields on its prototype.
    return modelType.decode(bytes) as unknown as ModelMessage;
  } catch (cause) {
    const what = `not a SentencePiece model (${cause instanceof Error ? cause.message : ''})`;
    throw new Failure('BadTokenizer', what, { cause });
  }
}

/** Everything beside the pieces that decides what tokens a text has. */
function refuse(
  trainer: ModelMessage['trainerSpec'],
  normalizer: NormalizerMessage | null,
  denormalizer: NormalizerMessage | null,
): void {
  if (trainer === null) throw bad('no trainer_spec: the file ends early, or is no such model');
  const type = trainer.modelType;
  if (type !== BPE) throw bad(`model_type ${MODEL_TYPES[type] ?? String(type)}; convert reads BPE`);
  if (!trainer.byteFallback) {
    throw bad('byte_fallback is off; convert reads models with byte fallback');
  }
  if (trainer.treatWhitespaceAsSuffix) throw bad('treat_whitespace_as_suffix is not supported');
  if (normalizer === null || normalizer.precompiledCharsmap.length > 0) {
    const name = normalizer === null ? 'nmt_nfkc' : textOf(normalizer.name);
    throw bad(`normalizer ${name || 'without a name'} is not supported; convert reads identity`);
  }
  if (normalizer.removeExtraWhitespaces) {
    throw bad('remove_extra_whitespaces is not supported');
  }
  if (!normalizer.escapeWhitespaces) {
    throw bad(`escape_whitespaces is off: spaces would not be ${SPACE}`);
  }
  if ((denormalizer?.precompiledCharsmap.length ?? 0) > 0) {
    throw bad('denormalizer_spec is not supported');
  }
}

/** @param absent protobufjs' value of bytes that are not there is an empty list */
function textOf(absent: Uint8Array | readonly number[]): string {
  const bytes = Uint8Array.from(absent);
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new Failure('BadTokenizer', `${quote(bytes)} is not UTF-8`, { cause });
  }
}

/** A piece in a message, whatever its bytes are. */
function quote(bytes: Uint8Array): string {
  return JSON.stringify(new TextDecoder().decode(Uint8Array.from(bytes).subarray(0, 80)));
}

function bad(what: string): Failure {
  return new Failure('BadTokenizer', what);
}
