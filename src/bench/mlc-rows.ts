import type { Samples } from './page-rows.ts';
import { median, rateRow, type Row } from './rows.ts';

/** The table of a run against web-llm: medians by the clock. `peer` names the library too. */
export function mlcRows(
  samples: Samples,
  { promptTokens, contexts }: { promptTokens: number; contexts: readonly number[] },
  peer: string,
): Row[] {
  const row = (name: string, what: string, tokens: number): Row => {
    const [ours, other] = ['ours', 'web-llm'].map((engine) => {
      const ms = samples[`${engine} ${what}`];
      if (ms === undefined) throw new Error(`${engine} ${what} was not measured`);
      return (tokens * 1000) / median(ms);
    });
    return rateRow(name, 'tokens/s', ours ?? NaN, other ?? NaN, peer);
  };
  return [
    row(`prefill of ${promptTokens} tokens`, 'prefill', promptTokens),
    ...contexts.map((context) => row(`decode after ${context} tokens`, `decode ${context}`, 1)),
  ];
}
