import { join } from 'node:path';
import { Failure } from '../src/failure.ts';
import type { Manifest, ModelConfig } from '../src/format/manifest.ts';
import { Tokenizer } from '../src/text/tokenizer.ts';
import { readCard, readSampling, type Card } from './card.ts';
import { parseConfig } from './config.ts';
import { exists, readJson, readWhole } from './files.ts';
import { Weights } from './weights.ts';

/** A checkpoint folder that is open for reading; `close` it. */
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

/** @throws Failure NotFound, BadCheckpoint, BadTokenizer */
export async function openCheckpoint(folder: string): Promise<Checkpoint> {
  const configJson = await readJson(folder, 'config.json', 'is this a checkpoint folder?');
  const config = parseConfig(configJson, join(folder, 'config.json'));
  const card = await readCard(folder);
  const sampling = await readSampling(folder);
  const hint = 'training writes it; a SentencePiece model has to be converted first';
  const tokenizerBytes = await readWhole(folder, 'tokenizer.json', hint);
  const tokenizer = Tokenizer.fromBytes(tokenizerBytes);
  if (tokenizer.vocab > config.vocab) {
    const sizes = `${tokenizer.vocab} pieces, the model has ${config.vocab} rows`;
    throw new Failure('BadCheckpoint', `${join(folder, 'tokenizer.json')}: ${sizes}`);
  }
  const weights = await Weights.open(folder, 'model');
  try {
    const has = await exists(folder, 'quantized.safetensors');
    const quantized = has ? await Weights.open(folder, 'quantized') : null;
    const own = ['config.json', 'pediatricsgpt.json', 'generation_config.json', 'tokenizer.json'];
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
