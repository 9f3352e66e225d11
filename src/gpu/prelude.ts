import type { Variant } from './device.ts';
import type { FactorType } from './tuning.ts';

/** How keys and values are kept: as activations are, or in 8 bits with a scale for every head. */
export type CacheType = 'elem' | 'int8';

/** What a kernel asks of the text before its shader, beyond the type of what is stored. */
export interface KernelTypes {
  /** `input` of the shader: what flows between kernels, or f32, as the residual stream is. */
  readonly input?: 'elem' | 'f32';
  /** `output` of the shader. */
  readonly output?: 'elem' | 'f32';
  /** With it `shuffled(v, step)` is v of the lane whose number differs in the bit `step`. */
  readonly subgroups?: boolean;
  /**
   * `cached` of the shader, four values of a KV cache: elem, or bytes of which 127 is the scale that
   * their head has in a plane of its own.
   */
  readonly cache?: CacheType;
  /** With it `dot8(a, b)` is the sum of products of four signed bytes. */
  readonly dot8?: boolean;
}

/**
 * What stands before a shader: types, and functions that only some GPUs can compile, each with a
 * stand-in that nobody calls. No newline: compiler messages name the line of the file.
 */
export function preludeOf(
  { variant, factors }: { readonly variant: Variant; readonly factors: FactorType },
  { input = 'elem', output = 'f32', subgroups, dot8, cache }: KernelTypes,
): string {
  const elem = variant === 'f16' ? 'f16' : 'f32';
  const type = (of: 'elem' | 'f32'): string => (of === 'elem' ? elem : of);
  const lines = [
    ...(variant === 'f16' ? ['enable f16;'] : []),
    ...(subgroups === true ? ['enable subgroups;'] : []),
    `alias elem = ${elem};`,
    `alias input = ${type(input)};`,
    `alias output = ${type(output)};`,
    ...halfLines[variant],
    ...factorLines[factors],
  ];
  if (subgroups !== undefined) {
    const value = subgroups ? 'subgroupShuffleXor(v, step)' : 'v';
    lines.push(`fn shuffled(v: vec4f, step: u32) -> vec4f { return ${value}; }`);
  }
  if (dot8 !== undefined) {
    lines.push(`fn dot8(a: u32, b: u32) -> i32 { return ${dot8 ? 'dot4I8Packed(a, b)' : '0'}; }`);
  }
  if (cache !== undefined) lines.push(...cacheLines[cache]);
  return `${lines.join(' ')} `;
}

/** `half4`: four halves of the package, in the router of the MoE-Adapter. */
const halfLines: Readonly<Record<Variant, readonly string[]>> = {
  f16: ['alias half4 = vec4<f16>;', 'fn of_half4(h: half4) -> vec4f { return vec4f(h); }'],
  f32: [
    'alias half4 = vec2u;',
    'fn of_half4(h: half4) -> vec4f { return vec4f(unpack2x16float(h.x), unpack2x16float(h.y)); }',
  ],
};

/** `factor4`: four numbers of its A or B. Integers come out times 2^16: `packFactor` has their units. */
const factorLines: Readonly<Record<FactorType, readonly string[]>> = {
  halves: ['alias factor4 = half4;', 'fn of_factor4(f: factor4) -> vec4f { return of_half4(f); }'],
  integers: [
    'alias factor4 = vec2u;',
    'fn of_factor4(f: factor4) -> vec4f {',
    'let high = f & vec2u(0xffff0000);',
    'return vec4f(bitcast<vec4i>(vec4u(f.x << 16, high.x, f.y << 16, high.y))); }',
  ],
};

const cacheLines: Readonly<Record<CacheType, readonly string[]>> = {
  elem: [
    'alias cached = vec4<elem>;',
    'fn to_cache(v: vec4f) -> cached { return vec4<elem>(v); }',
    'fn of_cache(c: cached) -> vec4f { return vec4f(c); }',
    'fn to_scale(v: f32) -> cached { return vec4<elem>(elem(v)); }',
    'fn of_scale(c: cached) -> f32 { return 1.0; }',
  ],
  int8: [
    'alias cached = u32;',
    'fn to_cache(v: vec4f) -> cached { return pack4x8snorm(v); }',
    'fn of_cache(c: cached) -> vec4f { return unpack4x8snorm(c); }',
    'fn to_scale(v: f32) -> cached { return bitcast<u32>(v); }',
    'fn of_scale(c: cached) -> f32 { return bitcast<f32>(c); }',
  ],
};
