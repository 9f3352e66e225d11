import type { Bar, Row } from './rows.ts';

/** What this project wants of its engine. */

const atLeast = (what: string, measured: number, least: number, unit = '×'): Bar => ({
  what,
  measured,
  bar: `at least ${least}${unit}`,
  met: measured >= least, // NaN is not met
});

const atMost = (what: string, measured: number, most: number, unit: string): Bar => ({
  what,
  measured,
  bar: `at most ${most} ${unit}`,
  met: measured <= most,
});

/** Of a run on a page: against ONNX Runtime's WebGPU in its better accuracy, and of our adapter. */
export function pageBars(rows: readonly Row[]): Bar[] {
  const against = (name: RegExp): number =>
    rows.find((row) => name.test(row.name) && row.peerName?.startsWith('ORT WebGPU') === true)
      ?.ratio ?? NaN;
  const own = (name: RegExp): number => rows.find((row) => name.test(row.name))?.ours ?? NaN;
  const rest = [
    atMost('decode with the adapter takes more', own(/^adapter of rank/), 6, '%'),
    atMost('switch of the task', own(/^switch of the task/), 20, 'ms'),
  ];
  if (!rows.some(({ peerName }) => peerName?.startsWith('ORT WebGPU') === true)) return rest;
  return [
    atLeast('matrices of one token, of ORT WebGPU', against(/^matmuls alone, one token/), 8),
    atLeast('matrices of 64 tokens, of ORT WebGPU', against(/^matmuls alone, 64 tokens/), 1.5),
    atLeast('prefill of a prompt, of ORT WebGPU', against(/^prefill of/), 1.5),
    ...rest,
  ];
}

/** Of decoding after few and many tokens in Node, see `contextResult`. */
export function contextBars(rows: readonly Row[]): Bar[] {
  return rows.flatMap(({ name, ours, ratio, peerName }): Bar[] => {
    if (name.includes('as a part of')) return [atLeast(name, ours, 0.8, '')];
    if (peerName !== 'f32' || ratio === null) return [];
    return [atLeast(`${name}, of f32`, ratio, 1)];
  });
}
