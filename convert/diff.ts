import { dequantizeBlock } from '../src/format/dtype.ts';
import { columnsOf, tensorByName } from '../src/format/layout.ts';
import type { Manifest, TensorBlock, TensorInfo } from '../src/format/manifest.ts';
import { blockReader, readManifest } from './reader.ts';

/** What is different in two packages: their manifests field by field, their tensors in numbers. */

/** So many lines are told of one part; the rest is counted. */
const MOST_LINES = 20;
const LONGEST_TEXT = 60;
/** Names of these parts are not told apart: files follow from tensors. */
const APART = new Set(['files', 'tensors']);

interface Side {
  readonly manifest: Manifest;
  readonly values: (tensor: TensorInfo, block: TensorBlock) => Promise<Float32Array>;
}

/**
 * Compares two packages. However their tensors are cut into files, the numbers count.
 * @returns a line for every difference, with the part of the package that it is in; none for equals
 * @throws Failure NotFound, BadManifest, ShardTruncated
 */
export async function diff(
  folderA: string,
  folderB: string,
  onProgress: (phase: string, done: number, total: number) => void = () => undefined,
): Promise<readonly string[]> {
  const [a, b] = [await openSide(folderA), await openSide(folderB)];
  const lines: string[] = [];
  for (const part of Object.keys(a.manifest) as (keyof Manifest)[]) {
    if (APART.has(part)) continue;
    const found: string[] = [];
    compareJson(part, a.manifest[part], b.manifest[part], found);
    lines.push(...shortened(part, found));
  }
  const [tokensA, tokensB] = [tokenizerOf(a.manifest), tokenizerOf(b.manifest)];
  if (tokensA !== tokensB) lines.push('tokenizer.json: other bytes');
  const [byNameA, byNameB] = [tensorByName(a.manifest), tensorByName(b.manifest)];
  const names = [...new Set([...byNameA.keys(), ...byNameB.keys()])];
  const found: string[] = [];
  for (const [i, name] of names.entries()) {
    onProgress('tensors', i, names.length);
    const line = await compareTensors(a, b, byNameA.get(name), byNameB.get(name));
    if (line !== null) found.push(`${name}: ${line}`);
  }
  onProgress('tensors', names.length, names.length);
  return [...lines, ...shortened('tensors', found)];
}

async function openSide(folder: string): Promise<Side> {
  const read = blockReader(folder);
  let last: { block: TensorBlock; values: Float32Array } | null = null;
  const values = async (tensor: TensorInfo, block: TensorBlock): Promise<Float32Array> => {
    if (last?.block === block) return last.values;
    const rows = block.rows[1] - block.rows[0];
    const bytes = await read(block);
    last = { block, values: dequantizeBlock(tensor.dtype, bytes, rows, columnsOf(tensor)) };
    return last.values;
  };
  return { manifest: await readManifest(folder), values };
}

/** Says how a tensor differs, or null. */
async function compareTensors(
  a: Side,
  b: Side,
  inA: TensorInfo | undefined,
  inB: TensorInfo | undefined,
): Promise<string | null> {
  if (inA === undefined) return 'in the second only';
  if (inB === undefined) return 'in the first only';
  const [formA, formB] = [inA, inB].map(({ dtype, shape }) => `${dtype} [${shape.join(', ')}]`);
  if (formA !== formB) return `${formA} and ${formB}`;
  if (sameBytes(a.manifest, inA) === sameBytes(b.manifest, inB)) return null;
  const columns = columnsOf(inA);
  const cuts = [...new Set([...inA.blocks, ...inB.blocks].flatMap(({ rows }) => rows))];
  cuts.sort((one, other) => one - other);
  let [different, squares, all, largest] = [0, 0, 0, 0];
  for (const [i, from] of cuts.slice(0, -1).entries()) {
    const to = cuts[i + 1] ?? from;
    const [one, other] = [await rowsOf(a, inA, from, to), await rowsOf(b, inB, from, to)];
    for (let at = 0; at < (to - from) * columns; at++) {
      const [x = 0, y = 0] = [one[at], other[at]];
      all += x * x;
      if (x === y) continue;
      different += 1;
      squares += (x - y) ** 2;
      largest = Math.max(largest, Math.abs(x - y));
    }
  }
  if (different === 0) return null;
  const count = (inA.shape[0] ?? 0) * columns;
  const share = all === 0 ? '' : `, ${(100 * Math.sqrt(squares / all)).toFixed(2)} % of its norm`;
  return `${different} of ${count} values differ, by ${largest.toPrecision(3)} at most${share}`;
}

/** What bytes a tensor has, as far as the manifest tells: equal for equal ones in equal files. */
function sameBytes({ files }: Manifest, { blocks }: TensorInfo): string {
  const hashes = new Map(files.map(({ name, sha256 }) => [name, sha256]));
  return JSON.stringify(blocks.map(({ file, offset, rows }) => [hashes.get(file), offset, rows]));
}

async function rowsOf(
  side: Side,
  tensor: TensorInfo,
  from: number,
  to: number,
): Promise<Float32Array> {
  const block = tensor.blocks.find(({ rows }) => rows[0] <= from && to <= rows[1]);
  if (block === undefined) throw new Error(`no block has rows ${from} to ${to} of ${tensor.name}`);
  const columns = columnsOf(tensor);
  const values = await side.values(tensor, block);
  return values.subarray((from - block.rows[0]) * columns, (to - block.rows[0]) * columns);
}

/** Adds a line for every leaf that is not the same. */
function compareJson(path: string, a: unknown, b: unknown, lines: string[]): void {
  if (Object.is(a, b)) return;
  if (typeof a === 'object' && typeof b === 'object' && a !== null && b !== null) {
    const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
    for (const key of keys) {
      const [one, other] = [a, b].map((side) => (side as Record<string, unknown>)[key]);
      compareJson(`${path}.${key}`, one, other, lines);
    }
    return;
  }
  lines.push(`${path}: ${told(a)} -> ${told(b)}`);
}

function told(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value);
  return text.length > LONGEST_TEXT ? `${text.slice(0, LONGEST_TEXT)}...` : text;
}

function shortened(part: string, lines: readonly string[]): string[] {
  if (lines.length <= MOST_LINES) return [...lines];
  return [...lines.slice(0, MOST_LINES), `${part}: ${lines.length - MOST_LINES} more differences`];
}

function tokenizerOf({ files }: Manifest): string | undefined {
  return files.find(({ name }) => name === 'tokenizer.json')?.sha256;
}
