import type { MatvecCut } from './tuning.ts';

/** A way of running matvec_q4 that a calibration may choose. */
export interface NamedCut {
  readonly title: string;
  readonly cut: MatvecCut;
}

const title = ({ lanes, workgroup, subgroup, int8 }: MatvecCut): string =>
  `${lanes} of ${workgroup} lanes${subgroup > 1 ? `, subgroups of ${subgroup}` : ''}${int8 ? ', int8' : ''}`;

/**
 * What is worth trying, the usual cut first: one lane for a row or many, sums through workgroup
 * memory or by shuffles, activations as they are or as bytes.
 * @param subgroup lanes that can shuffle, 1 for none
 * @param int8 whether activations may become bytes
 */
export function matvecCuts(usual: MatvecCut, subgroup: number, int8: boolean): NamedCut[] {
  const shuffling = (lanes: number): MatvecCut => ({
    lanes,
    workgroup: 64,
    subgroup: Math.min(subgroup, lanes),
    int8: false,
  });
  const plain = (lanes: number, workgroup: number): MatvecCut => ({
    lanes,
    workgroup,
    subgroup: 1,
    int8: false,
  });
  const floats = [
    usual,
    shuffling(32),
    shuffling(8),
    plain(32, 64),
    plain(8, 64),
    plain(1, 64),
    plain(1, 16),
  ];
  const bytes = [shuffling(32), shuffling(8), plain(1, 16)].map((cut) => ({ ...cut, int8: true }));
  const all = [...floats, ...(int8 ? bytes : [])].map((cut) => ({ title: title(cut), cut }));
  return [...new Map(all.map((one) => [one.title, one])).values()];
}
