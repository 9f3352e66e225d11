/**
 * A counter-based random number: the same (seed, position) gives the same number on every
 * machine, in any order, with no state kept. Both are taken as 32-bit words.
 *
 * The mixing is the two-word hash `pcg2d` of Jarzynski and Olano, "Hash Functions for GPU
 * Rendering" (JCGT 9.3, 2020): 32-bit multiplies and adds only, so a shader can do the same.
 * @returns a number in [0, 1) with 24 random bits, exact in f32
 */
export function randomAt(seed: number, position: number): number {
  let x = step(seed);
  let y = step(position);
  for (let round = 0; round < 2; round++) {
    if (round > 0) {
      x ^= x >>> 16;
      y ^= y >>> 16;
    }
    x = (x + Math.imul(y, MULTIPLIER)) | 0;
    y = (y + Math.imul(x, MULTIPLIER)) | 0;
  }
  x ^= x >>> 16;
  return (x >>> 8) / 2 ** 24;
}

const MULTIPLIER = 1664525;
const INCREMENT = 1013904223;

/** One step of a linear congruential generator modulo 2^32. */
function step(value: number): number {
  return (Math.imul(value, MULTIPLIER) + INCREMENT) | 0;
}
