import { readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Failure, failureName } from '../src/failure.ts';
import type { Manifest, ModelConfig } from '../src/format/manifest.ts';
import { Tokenizer } from '../src/text/tokenizer.ts';
import { readCard, readSampling, type Card } from './card.ts';
import { parseConfig } from './config.ts';
import { errorCode, exists, openFile, readJson, readWhole } from './files.ts';
import { readAddedTokens, withAddedTokens, type AddedTokenFiles } from './formats/added-tokens.ts';
import { ggufConfig } from './formats/gguf-model.ts';
import { ggufTokenizer } from './formats/gguf-tokenizer.ts';
import { openGguf } from './formats/gguf.ts';
import { sentencePieceTokenizer } from './formats/sentencepiece.ts';
import { fileSource } from './formats/stored.ts';
import { Weights } from './weights.ts';

/** A checkpoint that is open for reading; `close` it. */
export interface Checkpoint {
  readonly folder: string;
  readonly config: ModelConfig;
  readonly card: Card;
  readonly sampling: Manifest['sampling'];
  readonly tokenizer: Tokenizer;
  readonly tokenizerBytes: Uint8Array<ArrayBuffer>;
  readonly weights: Weights;
  /** Integers and scales that training made; null where convert is to quantize. */
  readonly quantized: Weights | null;
  /** Every file that decides what the package holds. */
  readonly files: readonly string[];
  close(): Promise<void>;
}

/** What says how large a model is and how its text becomes tokens. */
interface Description {
  readonly config: ModelConfig;
  readonly tokenizerBytes: Uint8Array<ArrayBuffer>;
  readonly files: readonly string[];
  readonly open: () => Promise<Weights>;
}

const TOKENIZER = 'tokenizer.json';
const SENTENCE_PIECE = 'tokenizer.model';

/**
 * Opens a folder with config.json and weights, or one with a GGUF file, or a GGUF file by name.
 * @throws Failure NotFound, BadCheckpoint, BadTokenizer
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const gguf = await findGguf(path);
  const folder = path.endsWith('.gguf') ? dirname(path) : path;
  const about = gguf === null ? await describeFolder(folder) : await describeGguf(folder, gguf);
  const { config, tokenizerBytes } = about;
  const card = await readCard(folder);
  const sampling = await readSampling(folder);
  const tokenizer = Tokenizer.fromBytes(tokenizerBytes);
  if (tokenizer.vocab > config.vocab) {
    const sizes = `the tokenizer has ${tokenizer.vocab} pieces, the model has ${config.vocab} rows`;
    throw new Failure('BadCheckpoint', `${folder}: ${sizes}`);
  }
  const weights = await about.open();
  try {
    const has = gguf === null && (await exists(folder, 'quantized.safetensors'));
    const quantized = has ? await Weights.open(folder, 'quantized') : null;
    const own = [...about.files, 'pediatricsgpt.json', 'generation_config.json'];
    return {
      folder,
      config,
      card,
      sampling,
      tokenizer,
      tokenizerBytes,
      weights,
      quantized,
      files: [...own, ...weights.files, ...(quantized?.files ?? [])],
      close: async () => {
        await weights.close();
        await quantized?.close();
      },
    };
  } catch (error) {
    await weights.close();
    throw error;
  }
}

/** The sizes of a checkpoint, whose weights need not be there. @throws Failure NotFound, BadCheckpoint */
export async function readModelConfig(path: string): Promise<ModelConfig> {
  const gguf = await findGguf(path);
  const folder = path.endsWith('.gguf') ? dirname(path) : path;
  if (gguf === null) return readConfig(folder);
  return parseConfig((await readGguf(folder, gguf, false)).configJson, join(folder, gguf));
}

async function readConfig(folder: string): Promise<ModelConfig> {
  const json = await readJson(folder, 'config.json', 'is this a checkpoint folder?');
  return parseConfig(json, join(folder, 'config.json'));
}

async function describeFolder(folder: string): Promise<Description> {
  const config = await readConfig(folder);
  const open = () => Weights.open(folder, 'model');
  if (!(await exists(folder, TOKENIZER)) && (await exists(folder, SENTENCE_PIECE))) {
    const { tokenizerBytes, files } = await readSentencePiece(folder);
    return { config, tokenizerBytes, files: ['config.json', ...files], open };
  }
  const hint = `training writes it; ${SENTENCE_PIECE} of SentencePiece will do as well`;
  const tokenizerBytes = await readWhole(folder, TOKENIZER, hint);
  return { config, tokenizerBytes, files: ['config.json', TOKENIZER], open };
}

/** The bytes of the tokenizer.json that a folder's SentencePiece model and its added tokens stand for. */
async function readSentencePiece(
  folder: string,
): Promise<Pick<Description, 'tokenizerBytes' | 'files'>> {
  const bytes = await readWhole(folder, SENTENCE_PIECE, 'it was there a moment ago');
  const files = [SENTENCE_PIECE];
  const beside = async (name: keyof AddedTokenFiles): Promise<unknown> => {
    if (!(await exists(folder, name))) return null;
    files.push(name);
    return readJson(folder, name, 'it was there a moment ago');
  };
  const about: AddedTokenFiles = {
    'added_tokens.json': await beside('added_tokens.json'),
    'tokenizer_config.json': await beside('tokenizer_config.json'),
    'special_tokens_map.json': await beside('special_tokens_map.json'),
  };
  try {
    const added = readAddedTokens(about);
    const json = sentencePieceTokenizer(bytes, (vocab) => withAddedTokens(vocab, added));
    return { tokenizerBytes: new TextEncoder().encode(json), files };
  } catch (cause) {
    if (failureName(cause) !== 'BadTokenizer' || !(cause instanceof Error)) throw cause;
    throw new Failure('BadTokenizer', `${join(folder, SENTENCE_PIECE)}: ${cause.message}`, {
      cause,
    });
  }
}

async function describeGguf(folder: string, name: string): Promise<Description> {
  const beside = await exists(folder, TOKENIZER);
  const { configJson, tokenizer } = await readGguf(folder, name, !beside);
  const config = parseConfig(configJson, join(folder, name));
  const tokenizerBytes =
    tokenizer === null
      ? await readWhole(folder, TOKENIZER, 'it was there a moment ago')
      : new TextEncoder().encode(tokenizer);
  const open = () => Weights.openFile(folder, name);
  return { config, tokenizerBytes, files: beside ? [TOKENIZER] : [], open };
}

/** What the metadata says; its tensors are opened elsewhere. */
async function readGguf(
  folder: string,
  name: string,
  withTokenizer: boolean,
): Promise<{ configJson: unknown; tokenizer: string | null }> {
  const handle = await openFile(folder, name, 'name a GGUF file, or a folder that has one');
  try {
    const gguf = await openGguf(await fileSource(handle));
    const configJson = ggufConfig(gguf);
    return { configJson, tokenizer: withTokenizer ? ggufTokenizer(gguf) : null };
  } catch (cause) {
    if (failureName(cause) !== 'BadCheckpoint' || !(cause instanceof Error)) throw cause;
    throw new Failure('BadCheckpoint', `${join(folder, name)}: ${cause.message}`, { cause });
  } finally {
    await handle.close();
  }
}

/** The GGUF file that is meant, or null where a folder has config.json. */
async function findGguf(path: string): Promise<string | null> {
  if (path.endsWith('.gguf')) return basename(path);
  if (await exists(path, 'config.json')) return null;
  const names = await namesIn(path);
  const files = names.filter((name) => name.endsWith('.gguf'));
  if (files.length < 2) return files[0] ?? null;
  throw new Failure('Usage', `${path}: several GGUF files (${files.join(', ')}); name one of them`);
}

async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    // Reading config.json says it better.
    if (['ENOENT', 'ENOTDIR'].includes(errorCode(error) ?? '')) return [];
    throw error;
  }
}
