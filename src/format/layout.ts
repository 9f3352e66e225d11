import { Failure } from '../failure.ts';
import { checkMeaning } from './meaning.ts';
import {
  GROUP_SIZE,
  MAX_MANIFEST_BYTES,
  MAX_SHARD_BYTES,
  parseManifestShape,
  TENSOR_ALIGNMENT,
  type FileInfo,
  type Manifest,
  type TensorBlock,
  type TensorInfo,
} from './manifest.ts';

/** Where tensors lie in files: sizes of blocks, and the strict reader of a manifest. */

const BLOCK_PADDING = 16;

/** Bytes of the values of a block without scales: rows * columns numbers (a vector: 1 column). */
export function qPlaneBytes(dtype: TensorInfo['dtype'], rows: number, columns: number): number {
  if (dtype === 'q4') return (rows * columns) / 2;
  if (dtype === 'q8') return rows * columns;
  return rows * columns * (dtype === 'f16' ? 2 : 4);
}

/** Bytes of a whole block: values, then the scale plane of q4 and q8, then zeros up to 16 bytes. */
export function blockBytes(dtype: TensorInfo['dtype'], rows: number, columns: number): number {
  const quantized = dtype === 'q4' || dtype === 'q8';
  const scales = quantized ? (rows * columns * 2) / GROUP_SIZE : 0;
  return roundUp(qPlaneBytes(dtype, rows, columns) + scales, BLOCK_PADDING);
}

/** The next multiple of `step` that is not below `value`. */
export function roundUp(value: number, step: number): number {
  return Math.ceil(value / step) * step;
}

/** K of a matrix [N, K]; 1 of a vector. */
export function columnsOf(tensor: Pick<TensorInfo, 'shape'>): number {
  return tensor.shape[1] ?? 1;
}

/** Every tensor of a package by its name. */
export function tensorByName(manifest: Pick<Manifest, 'tensors'>): ReadonlyMap<string, TensorInfo> {
  return new Map(manifest.tensors.map((tensor) => [tensor.name, tensor]));
}

/**
 * Reads a manifest from outside. After this call nothing about it is checked again: its shape is
 * right, every block lies in its file, apart from all others, and fits its tensor, and adapter,
 * tasks and known answers speak of things that exist.
 * @throws Failure BadManifest that says which field is wrong, and how
 */
export function parseManifest(bytes: Uint8Array): Manifest {
  if (bytes.length > MAX_MANIFEST_BYTES) {
    throw bad(`${bytes.length} bytes, more than ${MAX_MANIFEST_BYTES}`);
  }
  const manifest = parseManifestShape(parseJson(bytes));
  const files = checkFiles(manifest.files);
  const tensors = tensorByName(manifest);
  if (tensors.size !== manifest.tensors.length) throw bad('two tensors have the same name');
  for (const tensor of manifest.tensors) checkTensor(tensor, files);
  checkApart(manifest.tensors);
  checkMeaning(manifest, tensors);
  return manifest;
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new Failure('BadManifest', 'manifest.json is not UTF-8 JSON', { cause });
  }
}

function checkFiles(files: readonly FileInfo[]): ReadonlyMap<string, FileInfo> {
  const byName = new Map<string, FileInfo>();
  for (const file of files) {
    if (file.name === 'manifest.json') throw bad('manifest.json lists itself');
    if (byName.has(file.name)) throw bad(`file ${file.name} is listed twice`);
    if (file.bytes > MAX_SHARD_BYTES) {
      throw bad(`file ${file.name} has ${file.bytes} bytes, more than ${MAX_SHARD_BYTES}`);
    }
    byName.set(file.name, file);
  }
  if (!byName.has('tokenizer.json')) throw bad('tokenizer.json is not among the files');
  return byName;
}

function checkTensor(tensor: TensorInfo, files: ReadonlyMap<string, FileInfo>): void {
  const { name, dtype, shape } = tensor;
  const columns = columnsOf(tensor);
  const quantized = dtype === 'q4' || dtype === 'q8';
  if (quantized && (shape.length !== 2 || columns % GROUP_SIZE !== 0)) {
    throw bad(`tensor ${name}: ${dtype} wants [N, K] with K a multiple of ${GROUP_SIZE}`);
  }
  let row = 0;
  for (const block of tensor.blocks) {
    const [from, to] = block.rows;
    if (from !== row || to <= from) {
      throw bad(`tensor ${name}: rows ${from} to ${to} do not follow row ${row}`);
    }
    row = to;
    checkBlock(tensor, block, files.get(block.file));
  }
  if (row !== shape[0]) throw bad(`tensor ${name}: ${row} rows in blocks, ${shape[0]} in shape`);
}

function checkBlock(tensor: TensorInfo, block: TensorBlock, file: FileInfo | undefined): void {
  const where = `tensor ${tensor.name}: block in ${block.file} at ${block.offset}`;
  if (file === undefined) throw bad(`${where}: no such file is listed`);
  if (block.file === 'tokenizer.json') throw bad(`${where}: that file holds no tensors`);
  if (block.offset % TENSOR_ALIGNMENT !== 0) {
    throw bad(`${where}: not a multiple of ${TENSOR_ALIGNMENT}`);
  }
  const expected = blockBytes(tensor.dtype, block.rows[1] - block.rows[0], columnsOf(tensor));
  if (block.bytes !== expected) throw bad(`${where}: ${block.bytes} bytes, not ${expected}`);
  if (block.offset + block.bytes > file.bytes) {
    throw bad(`${where}: ends after the file's ${file.bytes} bytes`);
  }
}

function checkApart(tensors: readonly TensorInfo[]): void {
  const byFile = new Map<string, { from: number; to: number; name: string }[]>();
  for (const { name, blocks } of tensors) {
    for (const { file, offset, bytes } of blocks) {
      const spans = byFile.get(file) ?? [];
      spans.push({ from: offset, to: offset + bytes, name });
      byFile.set(file, spans);
    }
  }
  for (const [file, spans] of byFile) {
    spans.sort((a, b) => a.from - b.from);
    let last = { to: 0, name: '' };
    for (const span of spans) {
      if (span.from < last.to)
        throw bad(`tensors ${last.name} and ${span.name} overlap in ${file}`);
      last = span;
    }
  }
}

function bad(what: string): Failure {
  return new Failure('BadManifest', what);
}
