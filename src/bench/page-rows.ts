import { MATMUL_PAIRS, type EngineName } from './engine.ts';
import type { PageOptions } from './page-run.ts';
import { median, rateRow, round, timeRow, type Row } from './rows.ts';

/** Milliseconds by engine and measurement. */
export type Samples = Readonly<Record<string, readonly number[]>>;

type Described = Pick<PageOptions, 'shape' | 'engines' | 'contexts' | 'promptTokens'>;

/** The table of a run: medians, against the best that each provider of the peer could do. */
export function rowsOf(samples: Samples, options: Described): Row[] {
  const { shape, contexts, promptTokens } = options;
  const [short = promptTokens, ...long] = contexts;
  const operations = 2 * 2 * MATMUL_PAIRS * shape.width * shape.mlpWidth;
  const rows: Row[] = [];
  for (const peer of peersOf(options.engines)) {
    const pair = (what: string) => [at(samples, `ours ${what}`), peer.best(samples, what)] as const;
    for (const tokens of [1, promptTokens]) {
      const [ours, other] = pair(`matmuls ${tokens}`);
      const rate = (ms: number) => (operations * tokens) / ms / 1e6;
      const name = `matmuls alone, ${tokens === 1 ? 'one token' : `${tokens} tokens`}`;
      rows.push(rateRow(name, 'GFLOP/s', rate(ours), rate(other.ms), other.name));
    }
    const [ours, other] = pair('prefill');
    const prefill = (ms: number) => (promptTokens * 1000) / ms;
    const name = `prefill of ${promptTokens} tokens`;
    rows.push(rateRow(name, 'tokens/s', prefill(ours), prefill(other.ms), other.name));
    for (const context of [short, ...long]) {
      const [ours, other] = pair(`decode ${context}`);
      const name = `decode after ${context} tokens`;
      rows.push(rateRow(name, 'tokens/s', 1000 / ours, 1000 / other.ms, other.name));
    }
  }
  for (const context of long) {
    const beside = at(samples, `ours decode ${short} beside ${context}`);
    const ratio = beside / at(samples, `ours decode ${context}`);
    rows.push(rateRow(`decode after ${context} as a part of that after ${short}`, 'x', ratio));
  }
  if (shape.adapterRank > 0) rows.push(...adapterRows(samples, shape.adapterRank));
  return rows;
}

function adapterRows(samples: Samples, rank: number): Row[] {
  // Step by step beside each other: pairs see the same machine.
  const without = samples['ours adapter without'] ?? [];
  const pairs = (samples['ours adapter with'] ?? []).map((ms, i) => ms / (without[i] ?? NaN));
  const cost = median(pairs) - 1;
  const what = `adapter of rank ${rank} on gate, up and down: decode takes more`;
  return [
    { ...timeRow(what, 1), ours: round(100 * cost, 3), unit: '%' },
    timeRow('switch of the task', at(samples, 'ours task switch')),
  ];
}

interface Peer {
  best(samples: Samples, what: string): { readonly ms: number; readonly name: string };
}

/** ONNX Runtime's WebGPU in the better of its accuracies, measurement by measurement; its WASM. */
function peersOf(engines: readonly EngineName[]): Peer[] {
  const providers = [['ort-webgpu', 'ort-webgpu-int8'], ['ort-wasm']] as const;
  const names: Readonly<Record<string, string>> = {
    'ort-webgpu': 'ORT WebGPU',
    'ort-webgpu-int8': 'ORT WebGPU, accuracy level 4',
    'ort-wasm': 'ORT WASM',
  };
  return providers.flatMap((provider) => {
    const here = provider.filter((engine) => engines.includes(engine));
    if (here.length === 0) return [];
    const best: Peer['best'] = (samples, what) => {
      const all = here.map((engine) => {
        return { ms: at(samples, `${engine} ${what}`), name: names[engine] ?? engine };
      });
      return all.reduce((one, other) => (other.ms < one.ms ? other : one));
    };
    return [{ best }];
  });
}

function at(samples: Samples, name: string): number {
  const values = samples[name];
  if (values === undefined) throw new Error(`${name} was not measured`);
  return median(values);
}
