import { blockBytes, columnsOf } from '../format/layout.ts';
import type { Manifest } from '../format/manifest.ts';
import type { CacheType } from '../gpu/prelude.ts';
import type { KernelTimes } from '../model/profile.ts';
import type { Peaks } from './bench-peaks.ts';

/** What a pass has to do at least, by kinds of kernels, and how near to the machine's limits it came. */
export interface KindShare {
  readonly kind: string;
  readonly kernels: readonly string[];
  readonly dispatches: number;
  readonly ms: number;
  readonly share: number; // of the pass
  readonly gbs: number | null; // null where the work is too little to count
  readonly gflops: number | null;
  readonly ofRead: number | null; // of the machine's reading speed
  readonly ofFma: number | null;
}

interface Work {
  readonly bytes: number;
  readonly flops: number;
}

/** Kinds by parts of kernels' names. The first that fits takes it. */
const kinds: readonly (readonly [string, RegExp])[] = [
  ['embedding', /embed/],
  ['adapter', /adapter/],
  ['4-bit matrices', /q4/],
  ['head', /q8/],
  ['attention', /attention/],
];

/**
 * Bytes and operations of a pass of `tokens` after `context` others: every weight is read once,
 * every key and value of the cache once.
 * @param elemBytes of a key's or value's number, with its part of a scale
 */
export function workOf(
  { config, tensors, adapter }: Manifest,
  tokens: number,
  context: number,
  elemBytes: number,
): ReadonlyMap<string, Work> {
  const { layers, heads, kvHeads, headDim, tiedHead } = config;
  const weights = (names: (name: string, dtype: string) => boolean, rows: number): Work => {
    const some = tensors.filter(({ name, dtype }) => names(name, dtype));
    const values = some.reduce((sum, one) => sum + (one.shape[0] ?? 0) * columnsOf(one), 0);
    const bytes = some.reduce(
      (sum, one) => sum + blockBytes(one.dtype, one.shape[0] ?? 0, columnsOf(one)),
      0,
    );
    return { bytes, flops: 2 * values * rows };
  };
  const positions = tokens * context + (tokens * (tokens + 1)) / 2;
  const head = tiedHead ? 'embed' : 'head';
  return new Map<string, Work>([
    ['4-bit matrices', weights((_, dtype) => dtype === 'q4', tokens)],
    ['head', weights((name) => name === head, 1)],
    [
      'attention',
      {
        bytes: 2 * layers * (context + tokens) * kvHeads * headDim * elemBytes,
        flops: 4 * layers * heads * headDim * positions,
      },
    ],
    ...(adapter === null
      ? []
      : [['adapter', weights((name) => name.startsWith('adapter'), tokens)] as const]),
  ]);
}

export function sharesOf(
  times: KernelTimes,
  work: ReadonlyMap<string, Work>,
  peaks: Peaks,
): readonly KindShare[] {
  const total = [...times.values()].reduce((sum, { ms }) => sum + ms, 0);
  const groups = new Map<string, { kernels: string[]; ms: number; dispatches: number }>();
  for (const [kernel, { ms, dispatches }] of times) {
    const kind = kinds.find(([, pattern]) => pattern.test(kernel))?.[0] ?? kernel;
    const group = groups.get(kind) ?? { kernels: [], ms: 0, dispatches: 0 };
    group.kernels.push(kernel);
    group.ms += ms;
    group.dispatches += dispatches;
    groups.set(kind, group);
  }
  return [...groups]
    .map(([kind, { kernels, ms, dispatches }]) => {
      const done = work.get(kind);
      const gbs = done === undefined ? null : done.bytes / ms / 1e6;
      const gflops = done === undefined ? null : done.flops / ms / 1e6;
      return {
        kind,
        kernels,
        dispatches,
        ms: round(ms),
        share: round(ms / total),
        gbs: gbs === null ? null : round(gbs),
        gflops: gflops === null ? null : round(gflops),
        ofRead: gbs === null ? null : round(gbs / peaks.readGBs),
        ofFma: gflops === null ? null : round(gflops / peaks.f32Gflops),
      };
    })
    .sort((one, other) => other.ms - one.ms);
}

/** Tokens in no order, the same every time. */
export function benchPrompt(vocab: number, length: number): number[] {
  return Array.from({ length }, (_, i) => (i * 7919 + 13) % vocab);
}

/**
 * The rows of a short context again and again until they are those of a long one, since a software
 * driver would need minutes to compute them: to read them costs the same.
 */
export function repeated(
  rows: Uint8Array<ArrayBuffer>,
  { config: { kvHeads, headDim, layers } }: Pick<Manifest, 'config'>,
  cache: CacheType,
  short: number,
  long: number,
): Uint8Array<ArrayBuffer> {
  // Keys and values of every layer; of each in 8 bits the bytes, then a scale for every head.
  const wide =
    cache === 'int8' ? [kvHeads * headDim, kvHeads * 4] : [rows.length / short / layers / 2];
  const all = new Uint8Array((rows.length / short) * long);
  let [from, to] = [0, 0];
  while (from < rows.length) {
    for (const width of wide) {
      const part = rows.subarray(from, from + short * width);
      for (let token = 0; token < long; token += short) {
        all.set(part.subarray(0, Math.min(short, long - token) * width), to + token * width);
      }
      from += short * width;
      to += long * width;
    }
  }
  return all;
}

export function round(value: number): number {
  return Number(value.toPrecision(4));
}
