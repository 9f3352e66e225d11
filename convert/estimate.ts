import { dequantizeBlock, quantizedBlock } from '../src/format/dtype.ts';
import { blockBytes, columnsOf, roundUp } from '../src/format/layout.ts';
import { TENSOR_ALIGNMENT, type ModelConfig } from '../src/format/manifest.ts';
import { baseTensors } from '../src/format/meaning.ts';
import { readAdapterConfig } from './adapter-config.ts';
import { hostsOf } from './adapter.ts';
import { readModelConfig } from './checkpoint.ts';
import { fastQ4 } from './wasm/quantize.ts';

/** What a package will need, from config.json alone: before the weights are even there. */

export interface Estimate {
  readonly config: ModelConfig;
  readonly parameters: number;
  /** Bytes of the base's and of the adapter's files. */
  readonly baseBytes: number;
  readonly adapterBytes: number;
  /** Keys and values of all positions on the GPU, in f16 and f32. */
  readonly cacheBytes: { readonly f16: number; readonly f32: number };
  /** Seconds to quantize on one core of this machine, and to compute the known answers. */
  readonly seconds: { readonly quantize: number; readonly knownAnswer: number };
}

/** Values on which the speed of this machine is measured. */
const SAMPLE = 1 << 18;
/** Passes over all weights that known answers take at most, and tokens of one task. */
const PASSES = 9;
const TOKENS = 24;
const HALF_BYTES = 2;

/**
 * @param tasks how many tasks have known answers
 * @throws Failure NotFound, BadCheckpoint
 */
export async function estimate(
  checkpoint: string,
  adapter: string | null,
  tasks: number,
): Promise<Estimate> {
  const config = await readModelConfig(checkpoint);
  const base = baseTensors(config);
  const count = (shape: readonly number[]) => shape.reduce((product, one) => product * one, 1);
  const parameters = base.reduce((sum, { shape }) => sum + count(shape), 0);
  const baseBytes = base.reduce((sum, { dtype, shape }) => {
    const bytes = blockBytes(dtype, shape[0] ?? 1, columnsOf({ shape: [...shape] }));
    return sum + roundUp(bytes, TENSOR_ALIGNMENT);
  }, 0);
  const { layers, capacity, kvHeads, headDim } = config;
  const cached = 2 * layers * capacity * kvHeads * headDim;
  const speed = measure();
  return {
    config,
    parameters,
    baseBytes,
    adapterBytes: adapter === null ? 0 : await adapterBytes(adapter, config),
    cacheBytes: { f16: 2 * cached, f32: 4 * cached },
    seconds: {
      quantize: parameters * speed.quantize,
      knownAnswer:
        tasks === 0 ? 0 : parameters * (PASSES * speed.unpack + TOKENS * tasks * speed.multiply),
    },
  };
}

async function adapterBytes(folder: string, config: ModelConfig): Promise<number> {
  const { rank, experts, targets, mode } = await readAdapterConfig(folder);
  const low = rank * (experts ?? 1);
  const routers = mode === 'routed' ? (experts ?? 1) - 1 : 0;
  const perLayer = [...hostsOf(config)]
    .filter(([name]) => targets?.includes(name) ?? true)
    .reduce((sum, [, { inputs, rows }]) => {
      return sum + (low + routers) * inputs + low * (rows[1] - rows[0]);
    }, 0);
  return HALF_BYTES * config.layers * perLayer;
}

/** Seconds per weight on this machine: of the quantizer, of reading it back, of a product. */
function measure(): { quantize: number; unpack: number; multiply: number } {
  const columns = 1024;
  const rows = SAMPLE / columns;
  const values = Float32Array.from({ length: SAMPLE }, (_, i) => Math.sin(i * 1.7));
  const packed = fastQ4(values, rows, columns, 'search');
  const block = quantizedBlock('q4', packed, rows, columns);
  const weights = dequantizeBlock('q4', block, rows, columns);
  const x = Float64Array.from(values.subarray(0, columns));
  const product = () => {
    let sum = 0;
    for (let i = 0; i < SAMPLE; i++) sum += (weights[i] ?? 0) * (x[i % columns] ?? 0);
    return sum;
  };
  return {
    quantize: secondsOf(() => fastQ4(values, rows, columns, 'search')) / SAMPLE,
    unpack: secondsOf(() => dequantizeBlock('q4', block, rows, columns)) / SAMPLE,
    multiply: secondsOf(product) / SAMPLE,
  };
}

/** So long a measurement goes on: what is run a few times only is not compiled at its best yet. */
const MEASURED_SECONDS = 0.25;

/** Of the processor, so that other programs do not count; the best of all runs. */
function secondsOf(run: () => unknown): number {
  let best = Infinity;
  for (let spent = 0; spent < MEASURED_SECONDS;) {
    const start = process.cpuUsage();
    run();
    const { user, system } = process.cpuUsage(start);
    const seconds = (user + system) / 1e6;
    best = Math.min(best, seconds);
    spent += seconds;
  }
  return best;
}

/** An estimate for a person. */
export function estimateLines(found: Estimate): readonly string[] {
  const { config, parameters, baseBytes, adapterBytes, cacheBytes, seconds } = found;
  const size = (bytes: number) =>
    bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(1)} MB`;
  const weights = baseBytes + adapterBytes;
  const minutes = (seconds.quantize + seconds.knownAnswer) / 60;
  const time = minutes < 1 ? 'less than a minute' : `about ${Math.ceil(minutes)} minutes`;
  const rows: [string, string][] = [
    ['model', `${config.architecture}, ${parameters.toLocaleString('en-US')} parameters`],
    ['disk', `${size(weights)} (base ${size(baseBytes)}, adapter ${size(adapterBytes)})`],
    [
      'GPU',
      `${size(weights + cacheBytes.f16)}: weights and ${size(cacheBytes.f16)} of keys and values`,
    ],
    ['', `for ${config.capacity} positions; without f16 ${size(weights + cacheBytes.f32)}`],
    ['time', `${time} on one core of this machine`],
  ];
  return rows.map(([title, text]) => `${title.padEnd(5)}  ${text}`);
}
