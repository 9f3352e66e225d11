import { columnsOf, qPlaneBytes, tensorByName } from '../format/layout.ts';
import {
  GROUP_SIZE,
  type Manifest,
  type TensorBlock,
  type TensorInfo,
} from '../format/manifest.ts';
import { MICROSOFT, type GraphBuilder } from './graph.ts';

/**
 * The tensors of a package as ONNX sees them: no byte is written again. A q plane is what
 * com.microsoft.MatMulNBits wants as it lies (blocks of 32 along K, low nibble first, and without
 * zero points 8 or 128 means zero); scales are f16 and computed with in f32, so each gets a Cast.
 * https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits
 */

/** 0: f32 throughout. 4: activations may be rounded to 8 bits (WebGPU does, WebAssembly does not). */
export type AccuracyLevel = 0 | 4;

/** Some rows of a matrix: those of it that lie in one block. */
interface Piece {
  readonly from: number;
  readonly rows: number;
  readonly q: string; // u8 [rows, K/32, 16 or 32]
  readonly scales: string; // f32 [rows, K/32]
}

/** How matrices are multiplied with. */
export interface WeightOptions {
  readonly accuracyLevel?: AccuracyLevel;
  /**
   * Makes f32 matrices of the stored ones while a session is made: up to eight times the memory, and
   * three times as fast in WebAssembly, which unpacks a whole matrix for every product otherwise.
   */
  readonly unpacked?: boolean;
}

export class StoredWeights {
  readonly #graph: GraphBuilder;
  readonly #tensors: ReadonlyMap<string, TensorInfo>;
  readonly #accuracyLevel: AccuracyLevel;
  readonly #unpacked: boolean;

  constructor(
    graph: GraphBuilder,
    manifest: Pick<Manifest, 'tensors'>,
    { accuracyLevel = 0, unpacked = false }: WeightOptions,
  ) {
    this.#graph = graph;
    this.#tensors = tensorByName(manifest);
    this.#accuracyLevel = accuracyLevel;
    this.#unpacked = unpacked;
  }

  /** x [1, T, K] times rows [from, to) of a quantized tensor, plus their bias: [1, T, to - from]. */
  multiply(x: string, name: string, rows: readonly [number, number], bias?: string): string {
    const tensor = this.#tensor(name);
    const attributes = {
      K: columnsOf(tensor),
      bits: bitsOf(tensor),
      block_size: GROUP_SIZE,
      accuracy_level: this.#accuracyLevel,
    };
    if (this.#unpacked) return this.#multiplyUnpacked(x, tensor, rows, bias);
    const parts = this.#pieces(tensor, rows).map(({ q, scales, ...piece }) => {
      const span: [number, number] = [piece.from, piece.from + piece.rows];
      const offset = bias === undefined ? [] : ['', '', this.plain(bias, span)];
      return this.#graph.node('MatMulNBits', [x, q, scales, ...offset], {
        domain: MICROSOFT,
        attributes: { ...attributes, N: piece.rows },
      });
    });
    return this.#graph.concat(parts, -1);
  }

  /** The same with f32 matrices, which ONNX Runtime makes of constants while it loads. */
  #multiplyUnpacked(
    x: string,
    tensor: TensorInfo,
    rows: readonly [number, number],
    bias?: string,
  ): string {
    const graph = this.#graph;
    const columns = columnsOf(tensor);
    const parts = this.#pieces(tensor, rows).map((piece) => {
      const matrix = this.#unpack(piece, bitsOf(tensor), columns);
      return graph.node('Transpose', [matrix], { attributes: { perm: [1, 0] } });
    });
    const product = graph.node('MatMul', [x, graph.concat(parts, -1)]);
    return bias === undefined ? product : graph.node('Add', [product, this.plain(bias, rows)]);
  }

  /** Rows of one block in f32 [rows, K]: (q - 8) * scale or (q - 128) * scale, exact in f32. */
  #unpack({ q, scales, rows }: Piece, bits: number, columns: number): string {
    const graph = this.#graph;
    const last = graph.integers('last_axis', [-1]);
    let values = q;
    if (bits === 4) {
      const low = graph.node('BitwiseAnd', [q, graph.bytes('low_bits', [0x0f])]);
      const attributes = { direction: { string: 'RIGHT' } };
      const high = graph.node('BitShift', [q, graph.bytes('high_shift', [4])], { attributes });
      const pairs = [low, high].map((half) => graph.node('Unsqueeze', [half, last]));
      const shape = graph.integers('group_shape', [0, 0, GROUP_SIZE]);
      values = graph.node('Reshape', [graph.concat(pairs, -1), shape]);
    }
    const zero = graph.constant(`zero${bits}`, [], Float32Array.of(2 ** (bits - 1)));
    const centred = graph.node('Sub', [graph.cast(values, 'f32'), zero]);
    const scaled = graph.node('Mul', [centred, graph.node('Unsqueeze', [scales, last])]);
    const shape = graph.integers(`matrix_shape.${rows}.${columns}`, [rows, columns]);
    return graph.node('Reshape', [scaled, shape]);
  }

  /** Rows of a q8 table: ids i64 [1, T] -> f32 [1, T, K]. */
  gather(ids: string, name: string): string {
    const graph = this.#graph;
    const tensor = this.#tensor(name);
    const [rows = 0, columns = 1] = tensor.shape;
    const pieces = this.#pieces(tensor, [0, rows]);
    const parts = pieces.map((piece) => {
      if (pieces.length === 1) return this.#gatherPiece(ids, piece);
      // Every block is asked for every token, and gives zeros for those that it does not hold.
      const [first, last] = [piece.from, piece.from + piece.rows - 1];
      const low = graph.integers(`${piece.q}.first`, first);
      const high = graph.integers(`${piece.q}.last`, last);
      const near = graph.node('Clip', [ids, low, high]);
      const found = this.#gatherPiece(graph.node('Sub', [near, low]), piece);
      const holds = graph.cast(graph.node('Equal', [near, ids]), 'f32'); // [1, T]
      const column = graph.node('Unsqueeze', [holds, graph.integers('last_axis', [-1])]);
      return graph.node('Mul', [
        found,
        graph.node('Unsqueeze', [column, graph.integers('last_axis', [-1])]),
      ]);
    });
    const sum = parts.length === 1 ? (parts[0] ?? '') : graph.node('Sum', parts);
    return graph.node('Reshape', [sum, graph.integers('width', [0, 0, columns])]);
  }

  /** A vector or small matrix in f32 [rows, K], or some of its rows. */
  plain(name: string, rows?: readonly [number, number]): string {
    const tensor = this.#tensor(name);
    const [all = 0, columns] = tensor.shape;
    const span = rows ?? [0, all];
    const parts = tensor.blocks.flatMap((block) => {
      const [from, to] = overlap(block.rows, span);
      if (from >= to) return [];
      const dims = columns === undefined ? [to - from] : [to - from, columns];
      const place = placeIn(block, qPlaneBytes(tensor.dtype, 1, columns ?? 1), 0, from, to);
      const key = `${name}[${from}:${to}]`;
      return tensor.dtype === 'f16'
        ? this.#graph.stored16(key, dims, place)
        : this.#graph.stored(key, 'f32', dims, place);
    });
    return this.#graph.concat(parts, 0);
  }

  /**
   * Rows of one block. The table has a third axis, so that a head that is tied to it multiplies
   * with the same tensor.
   * @returns f32 [1, T, K/32, 32]
   */
  #gatherPiece(ids: string, { q, scales, rows }: Piece): string {
    const shape = this.#graph.integers(`${q}.scales_shape`, [rows, -1, 1]);
    const columnScales = this.#graph.node('Reshape', [scales, shape]);
    return this.#graph.node('GatherBlockQuantized', [q, ids, columnScales], {
      domain: MICROSOFT,
      attributes: { gather_axis: 0, quantize_axis: 2, block_size: GROUP_SIZE, bits: 8 },
    });
  }

  #pieces(tensor: TensorInfo, span: readonly [number, number]): Piece[] {
    const columns = columnsOf(tensor);
    const groups = columns / GROUP_SIZE;
    const rowBytes = qPlaneBytes(tensor.dtype, 1, columns);
    return tensor.blocks.flatMap((block) => {
      const [from, to] = overlap(block.rows, span);
      if (from >= to) return [];
      const rows = to - from;
      const name = `${tensor.name}[${from}:${to}]`;
      const plane = rowBytes * (block.rows[1] - block.rows[0]);
      const q = placeIn(block, rowBytes, 0, from, to);
      const scales = placeIn(block, groups * 2, plane, from, to);
      const dims = [rows, groups, rowBytes / groups];
      return [
        {
          from,
          rows,
          q: this.#graph.stored(`${name}.q`, 'u8', dims, q),
          scales: this.#graph.stored16(`${name}.scale`, [rows, groups], scales),
        },
      ];
    });
  }

  #tensor(name: string): TensorInfo {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw new Error(`no tensor ${name}`);
    return tensor;
  }
}

function bitsOf({ name, dtype }: TensorInfo): number {
  if (dtype === 'q4') return 4;
  if (dtype === 'q8') return 8;
  throw new Error(`${name} is ${dtype}, not quantized`);
}

function overlap(
  [from, to]: readonly [number, number],
  [first, end]: readonly [number, number],
): [number, number] {
  return [Math.max(from, first), Math.min(to, end)];
}

/** Rows [from, to) of a plane that starts `plane` bytes into a block. */
function placeIn(block: TensorBlock, rowBytes: number, plane: number, from: number, to: number) {
  const offset = block.offset + plane + (from - block.rows[0]) * rowBytes;
  return { file: block.file, offset, bytes: (to - from) * rowBytes };
}
