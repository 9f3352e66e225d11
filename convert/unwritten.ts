import { blockBytes, columnsOf } from '../src/format/layout.ts';
import type { AdapterInfo, ModelConfig, TensorBlock, TensorInfo } from '../src/format/manifest.ts';
import type { ReferenceModel } from './reference.ts';
import type { PackageTensor } from './tensors.ts';

/** So many values of a block are made at once. */
const BLOCK_VALUES = 1 << 22;

/** A model that the reference can compute with, and how its blocks are read. */
export interface ReadableModel {
  readonly model: ReferenceModel;
  readonly readBlock: (block: TensorBlock) => Promise<Uint8Array>;
}

/**
 * A model of tensors that are in no file: a block is made each time it is read, so memory holds one
 * of them. Types need not be those of a package.
 */
export function unwritten(
  config: ModelConfig,
  tensors: readonly PackageTensor[],
  adapter: AdapterInfo | null,
): ReadableModel {
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const readBlock = async ({ file, rows, bytes }: TensorBlock) => {
    const tensor = byName.get(file);
    if (tensor === undefined) throw new Error(`no tensor ${file}`);
    const block = new Uint8Array(bytes);
    await tensor.write(...rows, block);
    return block;
  };
  return { model: { config, tensors: tensors.map(inBlocks), adapter }, readBlock };
}

/** The tensor's name stands for the file. */
function inBlocks({ name, dtype, shape }: PackageTensor): TensorInfo {
  const rows = shape[0] ?? 1;
  const columns = columnsOf({ shape: [...shape] });
  const step = Math.max(1, Math.floor(BLOCK_VALUES / columns));
  const blocks: TensorBlock[] = [];
  for (let from = 0; from < rows; from += step) {
    const to = Math.min(rows, from + step);
    const bytes = blockBytes(dtype, to - from, columns);
    blocks.push({ file: name, offset: 0, bytes, rows: [from, to] });
  }
  return { name, dtype, shape: [...shape], blocks };
}
