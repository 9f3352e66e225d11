import { GROUP_SIZE } from '../../src/format/manifest.ts';
import { RATIOS, type Rounding } from '../quantize.ts';
import type { Rounded, RoundingError } from '../tensors.ts';
import { assemble } from './assemble.ts';

/**
 * `quantizeQ4` and `quantizeQ8` in WebAssembly: the same numbers in the same order within every
 * sum that a scale is chosen by, so the same bytes. Lanes are the two conventions for a scale, not
 * neighbours in a group, whose sums would then be rounded in another order.
 */

/** Where things lie in memory; a call takes at most `MOST` values. */
const SUMS = 0; // f64: squares, error; then u32: the largest value without its sign, as bits of f32
const TABLE = 64; // f64 [20], the ratios
const GROUP = 256; // f64 [32], the group in hand
const VALUES = 1024; // f32 or bf16 [MOST]
const MOST = 1 << 18;
const Q = VALUES + 4 * MOST;
const STEPS = Q + MOST; // f16 [MOST / 32]
const PAGES = Math.ceil((STEPS + (2 * MOST) / GROUP_SIZE) / 65536);

const BYTES = { f32: 4, bf16: 2 } as const;

const at = (name: string) => `(local.get ${name})`;
const f64x2 = (value: number) => `(f64x2.splat (f64.const ${value}))`;
/** Adding and taking this away rounds to integers, ties to even. */
const MAGIC = 1.5 * 2 ** 52;
const toInteger = (x: string) => `(f64x2.sub (f64x2.add ${x} ${f64x2(MAGIC)}) ${f64x2(MAGIC)})`;
const clamp = (x: string, low: number, high: number) =>
  `(f64x2.pmax (f64x2.pmin ${x} ${f64x2(high)}) ${f64x2(low)})`;

/** The nearest f16, ties to even: the 42 bits too many are rounded away; subnormals by 2^-24. */
const half = (x: string) => `
  (v128.bitselect
    (f64x2.mul ${toInteger(`(f64x2.mul ${x} ${f64x2(2 ** 24)})`)} ${f64x2(2 ** -24)})
    (v128.and
      (i64x2.add
        (i64x2.add ${x} (i64x2.splat (i64.const 0x1ffffffffff)))
        (v128.and (i64x2.shr_u ${x} (i32.const 42)) (i64x2.splat (i64.const 1))))
      (i64x2.splat (i64.const 0xfffffc0000000000)))
    (f64x2.lt (f64x2.abs ${x}) ${f64x2(2 ** -14)}))`;

/** Counts $name from 0 in steps up to a limit, which is at least one step. */
const count = (name: string, step: number, limit: number, body: string) => `
  (local.set ${name} (i32.const 0))
  (loop ${name}
    ${body}
    (local.set ${name} (i32.add ${at(name)} (i32.const ${step})))
    (br_if ${name} (i32.lt_u ${at(name)} (i32.const ${limit}))))`;

/** Two neighbours of the group in f32, from where they lie in a type of a file. */
const NEIGHBOURS = {
  f32: `(v128.load64_zero (i32.add ${at('$in')} ${at('$i')}))`,
  bf16: `(i32x4.shl
    (i32x4.extend_low_i16x8_u
      (v128.load32_zero (i32.add ${at('$in')} (i32.shr_u ${at('$i')} (i32.const 1)))))
    (i32.const 16))`,
} as const;

/** Widens the group to f64 and finds its value of largest size, the first of equal ones. */
const load = (type: keyof typeof NEIGHBOURS) => `
  ${count(
    '$i',
    8,
    128,
    `
    (local.set $v ${NEIGHBOURS[type]})
    (local.set $largest (i32x4.max_u ${at('$largest')}
      (v128.and ${at('$v')} (i32x4.splat (i32.const 0x7fffffff)))))
    (v128.store offset=${GROUP} (i32.shl ${at('$i')} (i32.const 1))
      (f64x2.promote_low_f32x4 ${at('$v')}))`,
  )}
  (local.set $extreme (f64.const 0))
  ${count(
    '$i',
    8,
    256,
    `
    (local.set $value (f64.load offset=${GROUP} ${at('$i')}))
    (local.set $extreme (select ${at('$value')} ${at('$extreme')}
      (f64.gt (f64.abs ${at('$value')}) (f64.abs ${at('$extreme')}))))`,
  )}`;

/** The part of a value's squared error that step and inverse of one pair of candidates leave. */
const measure = (error: string, step: string, inverse: string) => `
  (local.set $level ${clamp(toInteger(`(f64x2.mul ${at('$v')} ${at(inverse)})`), -8, 7)})
  (local.set $level (f64x2.sub ${at('$v')} (f64x2.mul ${at('$level')} ${at(step)})))
  (local.set ${error} (f64x2.add ${at(error)} (f64x2.mul ${at('$level')} ${at('$level')})))`;

const better = (error: string, step: string, least: string, best: string) => `
  (local.set $mask (v128.and (f64x2.lt ${at(error)} ${at(least)}) (f64x2.ne ${at(step)} ${f64x2(0)})))
  (local.set ${least} (v128.bitselect ${at(error)} ${at(least)} ${at('$mask')}))
  (local.set ${best} (v128.bitselect ${at(step)} ${at(best)} ${at('$mask')}))`;

const candidate = (step: string, inverse: string, error: string, offset: number) => `
  (local.set $x (f64x2.mul ${at('$bases')} (v128.load64_splat offset=${offset} ${at('$r')})))
  (local.set ${step} ${half(at('$x'))})
  (local.set ${inverse} (f64x2.div ${f64x2(1)} ${at(step)}))
  (local.set ${error} ${f64x2(0)})`;

/** Ratios 0 to 9 beside 10 to 19, so that the sums of one do not wait for each other. */
const SEARCH = `
  (local.set $bases (f64x2.replace_lane 1
    (f64x2.splat (f64.div ${at('$extreme')} (f64.const -8)))
    (f64.div (f64.abs ${at('$extreme')}) (f64.const 7))))
  (local.set $leastP ${f64x2(Infinity)}) (local.set $leastQ ${f64x2(Infinity)})
  (local.set $bestP ${f64x2(0)}) (local.set $bestQ ${f64x2(0)})
  ${count(
    '$r',
    8,
    80,
    `
    ${candidate('$stepP', '$inverseP', '$errorP', TABLE)}
    ${candidate('$stepQ', '$inverseQ', '$errorQ', TABLE + 80)}
    ${count(
      '$i',
      8,
      256,
      `
      (local.set $v (v128.load64_splat offset=${GROUP} ${at('$i')}))
      ${measure('$errorP', '$stepP', '$inverseP')}
      ${measure('$errorQ', '$stepQ', '$inverseQ')}`,
    )}
    ${better('$errorP', '$stepP', '$leastP', '$bestP')}
    ${better('$errorQ', '$stepQ', '$leastQ', '$bestQ')}`,
  )}
  ;; of equal ones the earlier ratio, then the first convention
  ${better('$leastQ', '$bestQ', '$leastP', '$bestP')}
  (local.set $step (select
    (f64x2.extract_lane 1 ${at('$bestP')}) (f64x2.extract_lane 0 ${at('$bestP')})
    (f64.lt (f64x2.extract_lane 1 ${at('$leastP')}) (f64x2.extract_lane 0 ${at('$leastP')}))))`;

const nearest = (value: string) => `
  (local.set $x (f64x2.splat ${value}))
  (local.set $step (f64x2.extract_lane 0 ${half(at('$x'))}))`;

/** Integers of two values at a time, from `low` on; what it leaves is added to the sums. */
const pack = (low: number, high: number, store: string) => `
  (local.set $inverse (select (f64.const 0) (f64.div (f64.const 1) ${at('$step')})
    (f64.eq ${at('$step')} (f64.const 0))))
  ${count(
    '$i',
    16,
    256,
    `
    (local.set $v (v128.load offset=${GROUP} ${at('$i')}))
    (local.set $level ${clamp(toInteger(`(f64x2.mul ${at('$v')} (f64x2.splat ${at('$inverse')}))`), low, high)})
    (local.set $x (i32x4.trunc_sat_f64x2_u_zero (f64x2.add ${at('$level')} ${f64x2(-low)})))
    ${store}
    (local.set $level (f64x2.sub ${at('$v')} (f64x2.mul ${at('$level')} (f64x2.splat ${at('$step')}))))
    (local.set $squares (f64x2.add ${at('$squares')} (f64x2.mul ${at('$v')} ${at('$v')})))
    (local.set $error (f64x2.add ${at('$error')} (f64x2.mul ${at('$level')} ${at('$level')})))`,
  )}`;

const lane = (index: number) => `(i32x4.extract_lane ${index} ${at('$x')})`;
const move = (name: string, bytes: number) =>
  `(local.set ${name} (i32.add ${at(name)} (i32.const ${bytes})))`;
const total = (offset: number, sums: string) => `
  (f64.store offset=${offset} (i32.const 0) (f64.add
    (f64x2.extract_lane 0 ${at(sums)}) (f64x2.extract_lane 1 ${at(sums)})))`;

/** `bitsOfHalf` of the step, which is an f16: never a negative zero. */
const HALF_BITS = `
  (local.set $bits (i32.reinterpret_f32 (f32.demote_f64 ${at('$step')})))
  (local.set $to (i32.shr_u
    (i32.sub (i32.and ${at('$bits')} (i32.const 0x7fffffff)) (i32.const 0x38000000))
    (i32.const 13)))
  (if (f64.lt (f64.abs ${at('$step')}) (f64.const ${2 ** -14}))
    (local.set $to (i32.trunc_f64_u (f64.mul (f64.abs ${at('$step')}) (f64.const ${2 ** 24})))))
  (local.set $to (i32.or ${at('$to')}
    (i32.and (i32.shr_u ${at('$bits')} (i32.const 16)) (i32.const 0x8000))))
  (if (f64.eq ${at('$step')} (f64.const 0)) (local.set $to (i32.const 0)))
  (i32.store16 ${at('$steps')} ${at('$to')})`;

const atLeast = (index: number) => `
  (local.set $to (i32x4.extract_lane ${index} ${at('$largest')}))
  (local.set $i (select ${at('$to')} ${at('$i')} (i32.lt_u ${at('$i')} ${at('$to')})))`;

const quantizer = (
  name: string,
  type: keyof typeof NEIGHBOURS,
  scale: string,
  packed: string,
  qBytes: number,
) => `
(func ${name} (param $in $q $steps $end)
  (local $i $r $to $bits i32)
  (local $extreme $value $step $inverse f64)
  (local $v $x $level $mask $bases $squares $error $largest v128)
  (local $stepP $inverseP $errorP $leastP $bestP v128)
  (local $stepQ $inverseQ $errorQ $leastQ $bestQ v128)
  (loop $groups
    ${load(type)}
    (local.set $step (f64.const 0))
    (if (i32.eqz (f64.eq ${at('$extreme')} (f64.const 0))) ${scale})
    ${HALF_BITS}
    (local.set $to ${at('$q')})
    ${packed}
    ${move('$in', GROUP_SIZE * BYTES[type])} ${move('$q', qBytes)} ${move('$steps', 2)}
    (br_if $groups (i32.lt_u ${at('$in')} ${at('$end')})))
  ${total(SUMS, '$squares')}
  ${total(SUMS + 8, '$error')}
  (local.set $i (i32.const 0)) ${atLeast(0)} ${atLeast(1)}
  (i32.store offset=${SUMS + 16} (i32.const 0) ${at('$i')}))`;

const PACK4 = pack(
  -8,
  7,
  `(i32.store8 ${at('$to')} (i32.or ${lane(0)} (i32.shl ${lane(1)} (i32.const 4)))) ${move('$to', 1)}`,
);
const PACK8 = pack(
  -128,
  127,
  `(i32.store8 ${at('$to')} ${lane(0)}) (i32.store8 offset=1 ${at('$to')} ${lane(1)}) ${move('$to', 2)}`,
);
const NAIVE = nearest(`(f64.div ${at('$extreme')} (f64.const -8))`);
const EIGHT = nearest(`(f64.div (f64.abs ${at('$extreme')}) (f64.const 127))`);
const SOURCE = (['f32', 'bf16'] as const)
  .flatMap((type) => [
    quantizer(`$search_${type}`, type, SEARCH, PACK4, 16),
    quantizer(`$naive_${type}`, type, NAIVE, PACK4, 16),
    quantizer(`$eight_${type}`, type, EIGHT, PACK8, 32),
  ])
  .join('\n');

/** How values are rounded: 4 bits by search or naively, or 8 bits. */
export type Way = Rounding | 'eight';
type Name = `${Way}_${keyof typeof NEIGHBOURS}`;
type Kernel = (values: number, q: number, steps: number, end: number) => void;
type Kernels = Readonly<Record<Name, Kernel>> & { readonly memory: WebAssembly.Memory };

let compiled: Kernels | undefined;
function kernels(): Kernels {
  if (compiled !== undefined) return compiled;
  const module = new WebAssembly.Module(assemble(SOURCE, PAGES));
  compiled = new WebAssembly.Instance(module).exports as unknown as Kernels;
  new Float64Array(compiled.memory.buffer, TABLE, RATIOS.length).set(RATIOS);
  return compiled;
}

/** What was done to some values. */
export interface RoundedBytes extends RoundingError {
  /** The largest value without its sign, as bits of f32: NaN is above infinity. */
  readonly largest: number;
}

/**
 * Rounds values as they lie in a file.
 * @param bytes whole groups of 32 values, little-endian
 * @param q gets the integers: 16 or 32 bytes for each group
 * @param scale gets the f16 scales: 2 bytes for each group
 */
export function roundBytes(
  way: Way,
  type: keyof typeof NEIGHBOURS,
  bytes: Uint8Array,
  q: Uint8Array,
  scale: Uint8Array,
): RoundedBytes {
  const { memory, [`${way}_${type}` as const]: call } = kernels();
  const all = new Uint8Array(memory.buffer);
  const sums = new Float64Array(memory.buffer, SUMS, 2);
  const largest = new Uint32Array(memory.buffer, SUMS + 16, 1);
  const count = bytes.length / BYTES[type];
  const qBytes = way === 'eight' ? 1 : 0.5;
  const done = { squares: 0, error: 0, largest: 0 };
  for (let from = 0; from < count; from += MOST) {
    const to = Math.min(count, from + MOST);
    all.set(bytes.subarray(from * BYTES[type], to * BYTES[type]), VALUES);
    call(VALUES, Q, STEPS, VALUES + (to - from) * BYTES[type]);
    q.set(all.subarray(Q, Q + (to - from) * qBytes), from * qBytes);
    const scales = (2 * (to - from)) / GROUP_SIZE;
    scale.set(all.subarray(STEPS, STEPS + scales), (2 * from) / GROUP_SIZE);
    done.squares += sums[0] ?? 0;
    done.error += sums[1] ?? 0;
    done.largest = Math.max(done.largest, largest[0] ?? 0);
  }
  return done;
}

/** `quantizeQ4`, some ten times as fast; the sums of its error are added in another order. */
export function fastQ4(
  values: Float32Array,
  rows: number,
  columns: number,
  rounding: Rounding,
): Rounded {
  return run(values, rows * columns, rounding, 0.5);
}

/** `quantizeQ8`, likewise. */
export function fastQ8(values: Float32Array, rows: number, columns: number): Rounded {
  return run(values, rows * columns, 'eight', 1);
}

function run(values: Float32Array, length: number, way: Way, bytesPerValue: number): Rounded {
  const q = new Uint8Array(length * bytesPerValue);
  const scale = new Uint16Array(length / GROUP_SIZE);
  const bytes = new Uint8Array(values.buffer, values.byteOffset, 4 * length);
  const { squares, error } = roundBytes(way, 'f32', bytes, q, new Uint8Array(scale.buffer));
  return { q, scale, rounding: { squares, error } };
}
