import { dequantizeBlock } from '../src/format/dtype.ts';
import { columnsOf, tensorByName } from '../src/format/layout.ts';
import type { AdaptedLinear, Manifest, TensorBlock, TensorInfo } from '../src/format/manifest.ts';
import {
  add,
  alibiSlopes,
  multiply,
  normHeads,
  rmsNorm,
  rotate,
  silu,
  softmax,
  type Rows,
} from './reference-math.ts';

/**
 * The forward pass in plain TypeScript, on the weights as a package holds them. It decides what a
 * package's known answers are, so it is written to be read, and keeps everything between the
 * stored weights and the logits in f64. One tensor's block at a time is in memory.
 *
 * M: all tokens of a pass, of every sequence. Activations are M rows of Float64Array.
 */

/** A model's part of a manifest; a package that is being written has no known answers yet. */
export type ReferenceModel = Pick<Manifest, 'config' | 'tensors' | 'adapter'>;

/** Tokens that follow each other, with the keys and values of those that were seen. */
export interface Sequence {
  readonly task: string;
  readonly keys: Float64Array[][]; // per layer, per position: [K Dh]
  readonly values: Float64Array[][];
  length: number;
}

/** New tokens of one sequence. */
export interface Step {
  readonly sequence: Sequence;
  readonly tokens: readonly number[];
}

/**
 * Results of the steps of a computation, in their order. What an earlier run has kept is given
 * back instead of being computed.
 */
export interface Recorder {
  step(compute: () => Promise<Float64Array>): Promise<Float64Array>;
}

/** Where a row of the pass belongs. */
interface Row {
  readonly sequence: Sequence;
  readonly token: number;
  readonly position: number;
}

export class Reference {
  readonly #model: ReferenceModel;
  readonly #tensors: ReadonlyMap<string, TensorInfo>;
  readonly #readBlock: (block: TensorBlock) => Promise<Uint8Array>;
  readonly #onLayer: () => void;
  readonly #recorder: Recorder;

  constructor(
    model: ReferenceModel,
    readBlock: (block: TensorBlock) => Promise<Uint8Array>,
    onLayer: () => void = () => undefined,
    recorder: Recorder = { step: (compute) => compute() },
  ) {
    this.#model = model;
    this.#tensors = tensorByName(model);
    this.#readBlock = readBlock;
    this.#onLayer = onLayer;
    this.#recorder = recorder;
  }

  /** An empty sequence under the gates of a task. */
  start(task: string): Sequence {
    const perLayer = () => Array.from({ length: this.#model.config.layers }, () => []);
    return { task, keys: perLayer(), values: perLayer(), length: 0 };
  }

  /** Logits [V] after every new token, in the order of the steps and their tokens. */
  async forward(steps: readonly Step[]): Promise<Rows> {
    return this.logits(await this.hidden(steps), steps);
  }

  /** What leaves the last layer, [M, D]. Every layer is a step of the recorder. */
  async hidden(steps: readonly Step[]): Promise<Rows> {
    const rows = rowsOf(steps);
    let x = await this.#embed(rows);
    for (let layer = 0; layer < this.#model.config.layers; layer++) {
      x = await this.#recordedLayer(layer, x, rows);
      this.#onLayer();
    }
    for (const { sequence, tokens } of steps) sequence.length += tokens.length;
    return x;
  }

  /** Logits [M, V] of what `hidden` gave for these steps. */
  async logits(hidden: Rows, steps: readonly Step[]): Promise<Rows> {
    const { normEps, tiedHead } = this.#model.config;
    const normed = rmsNorm(hidden, await this.#matrix('norm'), normEps);
    const logits = await this.#linear(tiedHead ? 'embed' : 'head', normed, rowsOf(steps));
    this.#onLayer();
    return logits;
  }

  /** A layer's output, its keys and its values are all that the rest of the pass needs of it. */
  async #recordedLayer(layer: number, x: Rows, rows: readonly Row[]): Promise<Rows> {
    const { config } = this.#model;
    const cached = config.kvHeads * config.headDim;
    let output: Rows | null = null;
    const record = await this.#recorder.step(async () => {
      output = await this.#layer(layer, x, rows);
      const keys = rows.map(({ sequence, position }) => sequence.keys[layer]?.[position]);
      const values = rows.map(({ sequence, position }) => sequence.values[layer]?.[position]);
      const parts = [...output, ...keys, ...values].map((part) => part ?? new Float64Array());
      const joined = new Float64Array(rows.length * (config.width + 2 * cached));
      parts.reduce((at, part) => (joined.set(part, at), at + part.length), 0);
      return joined;
    });
    if (output !== null) return output;
    const slice = (from: number, size: number) =>
      rows.map((_, m) => record.slice(from + m * size, from + (m + 1) * size));
    const keysAt = rows.length * config.width;
    const [keys, values] = [slice(keysAt, cached), slice(keysAt + rows.length * cached, cached)];
    rows.forEach(({ sequence }, m) => {
      sequence.keys[layer]?.push(keys[m] ?? new Float64Array());
      sequence.values[layer]?.push(values[m] ?? new Float64Array());
    });
    return slice(0, config.width);
  }

  async #embed(rows: readonly Row[]): Promise<Rows> {
    const embed = this.#tensor('embed');
    const columns = columnsOf(embed);
    const x = rows.map(() => new Float64Array(columns));
    for (const block of embed.blocks) {
      const [from, to] = block.rows;
      const here = rows.flatMap(({ token }, m) => (token >= from && token < to ? [m] : []));
      if (here.length === 0) continue;
      const table = dequantizeBlock(embed.dtype, await this.#readBlock(block), to - from, columns);
      for (const m of here) {
        const start = ((rows[m]?.token ?? 0) - from) * columns;
        x[m]?.set(table.subarray(start, start + columns));
      }
    }
    return x;
  }

  /** x + attention(norm(x)), then + mlp(norm(x)). */
  async #layer(layer: number, x: Rows, rows: readonly Row[]): Promise<Rows> {
    const { normEps, mlpWidth, qkvBias } = this.#model.config;
    const name = (part: string) => `layers.${layer}.${part}`;
    const attentionIn = rmsNorm(x, await this.#matrix(name('attention_norm')), normEps);
    const projected = await this.#linear(name('qkv'), attentionIn, rows);
    const bias = qkvBias ? await this.#matrix(name('qkv_bias')) : [];
    const qkv = projected.map((row) => row.map((value, n) => value + (bias[n] ?? 0)));
    const mixed = await this.#attention(layer, qkv, rows);
    const attended = add(x, await this.#linear(name('attention_out'), mixed, rows));
    const mlpIn = rmsNorm(attended, await this.#matrix(name('mlp_norm')), normEps);
    const gateUp = await this.#linear(name('gate_up'), mlpIn, rows);
    const inner = gateUp.map((row) =>
      row.subarray(0, mlpWidth).map((gate, i) => silu(gate) * (row[mlpWidth + i] ?? 0)),
    );
    return add(attended, await this.#linear(name('down'), inner, rows));
  }

  /** Causal attention of every row over its own sequence; [M, (H + 2 K) Dh] -> [M, H Dh]. */
  async #attention(layer: number, qkv: Rows, rows: readonly Row[]): Promise<Rows> {
    const { heads, kvHeads, headDim, positions, qkNorm, normEps } = this.#model.config;
    const [keysAt, valuesAt] = [heads * headDim, (heads + kvHeads) * headDim];
    const norms = qkNorm ? await this.#matrix(`layers.${layer}.qk_norm`) : null;
    const slopes = positions.kind === 'alibi' ? alibiSlopes(heads) : [];
    rows.forEach(({ sequence, position }, m) => {
      const row = qkv[m] ?? new Float64Array();
      const key = row.slice(keysAt, valuesAt);
      [row.subarray(0, keysAt), key].forEach((part, side) => {
        const weight = norms?.subarray(side * headDim, (side + 1) * headDim);
        if (weight !== undefined) normHeads(part, weight, normEps);
        if (positions.kind === 'rope') rotate(part, position, headDim, positions.theta);
      });
      sequence.keys[layer]?.push(key);
      sequence.values[layer]?.push(row.slice(valuesAt));
    });
    return rows.map(({ sequence, position }, m) => {
      const query = qkv[m] ?? new Float64Array();
      const keys = (sequence.keys[layer] ?? []).slice(0, position + 1);
      const values = sequence.values[layer] ?? [];
      const output = new Float64Array(keysAt);
      for (let head = 0; head < heads; head++) {
        const from = head * headDim;
        const shared = Math.floor(head / (heads / kvHeads)) * headDim;
        const scores = keys.map((key, past) => {
          let sum = 0;
          for (let i = 0; i < headDim; i++) sum += (query[from + i] ?? 0) * (key[shared + i] ?? 0);
          return sum / Math.sqrt(headDim) - (slopes[head] ?? 0) * (position - past);
        });
        softmax(scores).forEach((weight, past) => {
          const value = values[past] ?? output;
          for (let i = 0; i < headDim; i++) {
            output[from + i] = (output[from + i] ?? 0) + weight * (value[shared + i] ?? 0);
          }
        });
      }
      return output;
    });
  }

  /** y = W x, and B (g' * A x) for each adapted linear that lives in this tensor. */
  async #linear(name: string, x: Rows, rows: readonly Row[]): Promise<Rows> {
    const tensor = this.#tensor(name);
    const columns = columnsOf(tensor);
    const y = x.map(() => new Float64Array(tensor.shape[0] ?? 0));
    for (const block of tensor.blocks) {
      const [from, to] = block.rows;
      const bytes = await this.#readBlock(block);
      multiply(dequantizeBlock(tensor.dtype, bytes, to - from, columns), columns, x, y, from);
    }
    const linears = this.#model.adapter?.linears ?? [];
    for (const [index, linear] of linears.entries()) {
      if (linear.tensor === name) await this.#adapt(linear, index, x, y, rows);
    }
    return y;
  }

  async #adapt(linear: AdaptedLinear, index: number, x: Rows, y: Rows, rows: readonly Row[]) {
    const adapter = this.#model.adapter;
    if (adapter === null) return;
    const { experts, rank, alpha } = adapter;
    const low = x.map(() => new Float64Array(experts * rank));
    multiply(await this.#matrix(linear.a), columnsOf(this.#tensor(linear.a)), x, low, 0);
    const gates = await this.#gates(linear, index, x, rows);
    low.forEach((values, m) => {
      for (let row = 0; row < values.length; row++) {
        const gate = row < rank ? 1 : (gates[m]?.[Math.floor(row / rank) - 1] ?? 0);
        values[row] = (values[row] ?? 0) * gate * (alpha / rank);
      }
    });
    const part = y.map((row) => row.subarray(...linear.rows));
    const delta = part.map((row) => new Float64Array(row.length));
    multiply(await this.#matrix(linear.b), experts * rank, low, delta, 0);
    part.forEach((row, m) => {
      delta[m]?.forEach((value, n) => (row[n] = (row[n] ?? 0) + value));
    });
  }

  /** Gates of the specific experts for every row: routed per token, or the task's. */
  async #gates(linear: AdaptedLinear, index: number, x: Rows, rows: readonly Row[]) {
    const adapter = this.#model.adapter;
    if (linear.router !== null) {
      const logits = x.map(() => new Float64Array((adapter?.experts ?? 1) - 1));
      multiply(await this.#matrix(linear.router), x[0]?.length ?? 0, x, logits, 0);
      return logits.map((row) => softmax([...row]));
    }
    return rows.map(({ sequence }) => {
      const gates = adapter?.gates[sequence.task]?.[index];
      if (gates === undefined) throw new Error(`no gates for ${sequence.task}, ${linear.linear}`);
      return gates;
    });
  }

  /** The whole of a small tensor, row-major. */
  async #matrix(name: string): Promise<Float32Array> {
    const tensor = this.#tensor(name);
    const columns = columnsOf(tensor);
    const values = new Float32Array((tensor.shape[0] ?? 0) * columns);
    for (const block of tensor.blocks) {
      const [from, to] = block.rows;
      const bytes = await this.#readBlock(block);
      values.set(dequantizeBlock(tensor.dtype, bytes, to - from, columns), from * columns);
    }
    return values;
  }

  #tensor(name: string): TensorInfo {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw new Error(`no tensor ${name}`);
    return tensor;
  }
}

/** The rows of a pass whose steps have not been added to their sequences. */
function rowsOf(steps: readonly Step[]): readonly Row[] {
  return steps.flatMap(({ sequence, tokens }) =>
    tokens.map((token, i): Row => ({ sequence, token, position: sequence.length + i })),
  );
}
