/**
 * Bugs to plant in the shaders, each of a kind that is easily made: the tests have to notice them.
 * `.ci/planted-bugs.mjs` runs a kernel's own tests and the known-answer test with every one of them;
 * the latter takes the usual way of every kernel, and so meets no bug that names a test.
 */
export interface PlantedBug {
  /** File in `shaders/`, which is also the name of the kernel's test. */
  readonly kernel: string;
  readonly what: string;
  /** The test in `src/gpu/kernels` for a way of running it that only some GPUs or settings take. */
  readonly test?: string;
  /** Stands in the shader exactly once. */
  readonly find: string;
  readonly replace: string;
}

/** A sum rounded to f16 after every step, as an f16 accumulator would. */
const HALVED =
  'vec4f(unpack2x16float(pack2x16float(sums[0].xy)), unpack2x16float(pack2x16float(sums[0].zw)))';

export const plantedBugs: readonly PlantedBug[] = [
  {
    kernel: 'matvec_q4',
    what: 'scales of the neighbouring group',
    find: 'unpack2x16float(word >> (group % 2 * 16)).x',
    replace: 'unpack2x16float(word >> ((group + 1) % 2 * 16)).x',
  },
  {
    kernel: 'matvec_q4',
    what: 'f16 accumulator',
    find: 'sums[0] += scales * group_product(q, token, g * 8);',
    replace: `sums[0] += scales * group_product(q, token, g * 8); sums[0] = ${HALVED};`,
  },
  {
    kernel: 'matvec_q4',
    what: 'missing barrier',
    find: '    workgroupBarrier();\n  }\n  if (lane',
    replace: '  }\n  if (lane',
  },
  {
    kernel: 'matvec_q4',
    what: 'squares of this lane alone',
    find: 'total += partial_squares[i];',
    replace: 'total += partial_squares[lane];',
  },
  {
    kernel: 'matvec_q4',
    what: 'the adapter is not divided by rms(x)',
    find: 'sums += adapted(row, first, lane % LANES);',
    replace: 'sums += adapted(row, first, lane % LANES) * (1 / factor);',
  },
  {
    kernel: 'matvec_q4',
    what: 'gate and up exchanged',
    find: 'value = value / (1 + exp(min(-value, 80))) * pairs[i];',
    replace: 'value = pairs[i] / (1 + exp(min(-pairs[i], 80))) * value;',
  },
  {
    kernel: 'matvec_q4',
    what: 'zero point of 7',
    find: 'let offset = 8 * dot',
    replace: 'let offset = 7 * dot',
  },
  {
    kernel: 'matvec_q4',
    what: 'the second token of two gets the adapter of the first',
    find: 'adapted_four(four, source + LINEARS * (P / 4) + j)',
    replace: 'adapted_four(four, source + j)',
  },
  {
    kernel: 'matvec_q4',
    what: 'the second token of two is written where a pass has none',
    find: 'if (first + 1 < params.tokens) {',
    replace: 'if (first < params.tokens) {',
  },
  {
    kernel: 'matvec_q8',
    what: 'bytes taken as signed',
    find: 'let offset = 128 * dot',
    replace: 'let offset = 0 * dot',
  },
  {
    kernel: 'matvec_q8',
    what: 'last rows of a block left out',
    find: 'i < 4 && row + i < N',
    replace: 'i < 4 && row + i < N - 1',
  },
  {
    kernel: 'matmul_q4',
    what: 'high and low nibbles exchanged',
    find: 'w_tile[to * STRIDE + i * 2] = (vec4f(low) - 8) * scale;',
    replace: 'w_tile[to * STRIDE + i * 2] = (vec4f(high) - 8) * scale;',
  },
  {
    kernel: 'matmul_q4',
    what: 'the last token of a tile of its own left out',
    find: 'if (t >= params.tokens || n >= N) { continue; }',
    replace: 'if (t + 1 > params.tokens - u32(params.tokens > 1) || n >= N) { continue; }',
  },
  {
    kernel: 'rms_norm',
    what: 'missing barrier',
    find: '  workgroupBarrier();\n',
    replace: '',
  },
  {
    kernel: 'rms_norm',
    what: 'eps outside of the root',
    find: 'inverseSqrt(total / f32(K) + EPS)',
    replace: '1 / (sqrt(total / f32(K)) + EPS)',
  },
  {
    kernel: 'attention',
    what: 'a token does not see itself',
    find: 'p < vec4u(length)',
    replace: 'p < vec4u(max(length, 2) - 1)',
  },
  {
    kernel: 'attention',
    what: 'a token sees the one after it',
    find: 'p < vec4u(length)',
    replace: 'p <= vec4u(length)',
  },
  {
    kernel: 'attention',
    what: 'old sums are not shrunk to a new largest score',
    find: 'sums[1] *= shrink.y;',
    replace: '',
  },
  {
    kernel: 'attention',
    what: 'the query of the first token for the second',
    find: 'sums[1] += query[DH / 4 + i] * four;',
    replace: 'sums[1] += query[i] * four;',
  },
  {
    kernel: 'attention',
    what: 'the first of four tokens sees what the last of them sees',
    find: 'slope, p, lengths.x)',
    replace: 'slope, p, lengths.w)',
  },
  {
    kernel: 'attention_decode',
    what: 'the new key is not turned',
    find: 'raw_key[lane] = four_turned(H + shared_head, lane * 4, DH);',
    replace: 'raw_key[lane] = four_values(H + shared_head, lane * 4);',
  },
  {
    kernel: 'attention_decode',
    what: 'the last position before the new token is left out',
    find: 'let end = min(begin + length, params.position);',
    replace: 'let end = min(begin + length, max(params.position, 1) - 1);',
  },
  {
    kernel: 'attention_decode',
    what: 'the query of the first head for the second of a team',
    find: 'sums[1] += query[DH / 4 + i] * four;',
    replace: 'sums[1] += query[i] * four;',
  },
  {
    kernel: 'attention_combine',
    what: 'slices are not brought to one largest score',
    find: 'let share = exp(slices[row + columns].x - largest);',
    replace: 'let share = 1.0;',
  },
  {
    kernel: 'rope',
    what: 'turned the other way',
    find: 'x[row + a] = v.x * turn.x - v.y * turn.y;\n    x[row + a + pairs] = v.y * turn.x + v.x * turn.y;',
    replace:
      'x[row + a] = v.x * turn.x + v.y * turn.y;\n    x[row + a + pairs] = v.y * turn.x - v.x * turn.y;',
  },
  {
    kernel: 'kv_write',
    what: 'one position too late',
    find: 'let to = (params.position + id.z) * width + id.x;',
    replace: 'let to = (params.position + id.z + 1) * width + id.x;',
  },
  {
    kernel: 'embed_q8',
    what: 'the row before',
    find: 'let row = tokens[id.z] - FROM;',
    replace: 'let row = tokens[id.z] - FROM - 1;',
  },
  {
    kernel: 'swiglu',
    what: 'gate and up exchanged',
    find: 'let silu = gate / (1 + exp(min(-gate, vec4f(80))));\n  y[id.z * width + id.x] = vec4<elem>(silu * up);',
    replace:
      'let silu = up / (1 + exp(min(-up, vec4f(80))));\n  y[id.z * width + id.x] = vec4<elem>(silu * gate);',
  },
  {
    kernel: 'adapter_down',
    what: 'gates of the first linear for all of them',
    find: 'gates[group.z * GATE_STRIDE + linear * EXPERTS + j / RANK]',
    replace: 'gates[group.z * GATE_STRIDE + j / RANK]',
  },
  {
    kernel: 'adapter_down',
    what: 'units of the first rows for all of them',
    find: 'units[row + i]',
    replace: 'units[i]',
  },
  {
    kernel: 'adapter_up',
    what: 'written over what the base matrix made',
    find: 'y[id.z * Y + B_FROM + row + i] += sums[i];',
    replace: 'y[id.z * Y + B_FROM + row + i] = sums[i];',
  },
  {
    kernel: 'adapter_route',
    what: 'softmax over the universal expert as well',
    find: 'var total = 0.0;',
    replace: 'var total = exp(-largest);',
  },
  {
    kernel: 'sample_scores',
    what: 'a repeated token with a positive logit becomes likelier',
    find: 'select(logit * settings.repetition, logit / settings.repetition, logit > 0)',
    replace: 'logit * settings.repetition',
  },
  {
    kernel: 'sample_scores',
    what: 'minus zero stands below zero',
    find: 'select(bitcast<u32>(value), 0u, value == 0)',
    replace: 'bitcast<u32>(value)',
  },
  {
    kernel: 'sample_scores',
    what: 'infinity counts as a number',
    find: '(bits & 0x7f800000u) == 0x7f800000u',
    replace: '(bits & 0x7fffffffu) > 0x7f800000u',
  },
  {
    kernel: 'sample_pick',
    what: 'one more than top k',
    find: 'carried(vec2u(0, settings.top_k - 1))',
    replace: 'carried(vec2u(0, settings.top_k))',
  },
  {
    kernel: 'sample_pick',
    what: 'min p is taken for top p',
    find: 'f32(w) >= settings.min_p * UNIT',
    replace: 'f32(w) >= settings.top_p * UNIT',
  },
  {
    kernel: 'sample_pick',
    what: 'the oldest token of a full window is counted for one more step',
    find: 'if (position - settings.start >= WINDOW)',
    replace: 'if (position - settings.start > WINDOW)',
  },
  {
    kernel: 'sample_pick',
    what: 'the highest id of equal ones',
    find: 'a.x > b.x || (a.x == b.x && a.y < b.y)',
    replace: 'a.x > b.x || (a.x == b.x && a.y > b.y)',
  },
  {
    kernel: 'matvec_q4',
    what: 'half of the lanes of a subgroup are not added',
    test: 'matvec_q4-cuts',
    find: 'step < SUBGROUP; step *= 2',
    replace: 'step * 2 < SUBGROUP; step *= 2',
  },
  {
    kernel: 'matvec_q4',
    what: 'the sum of a subgroup is added for each of its lanes',
    test: 'matvec_q4-cuts',
    find: 'i < LANES; i += SUBGROUP',
    replace: 'i < LANES; i++',
  },
  {
    kernel: 'matvec_q4',
    what: 'zero point of 7 under bytes',
    test: 'matvec_q4-cuts',
    find: 'f32(8 * sum)',
    replace: 'f32(7 * sum)',
  },
  {
    kernel: 'kv_write',
    what: 'the scale of a head from its first four values',
    test: 'cache',
    find: 'let at = source - column + i;',
    replace: 'let at = source - column;',
  },
  {
    kernel: 'attention',
    what: 'values by the scales of keys',
    test: 'cache',
    find: 'of_scale(values[p.x]), of_scale(values[p.y])',
    replace: 'of_scale(keys[p.x]), of_scale(keys[p.y])',
  },
  {
    kernel: 'attention_decode',
    what: 'the new value by the scale of the new key',
    test: 'cache',
    find: 'new_value = of_cache(value) * sizes.y;',
    replace: 'new_value = of_cache(value) * sizes.x;',
  },
];

/** The shader with the bug. @throws Error where the bug has no place in it any more */
export function plant(bug: PlantedBug, wgsl: string): string {
  const places = wgsl.split(bug.find).length - 1;
  if (places !== 1) {
    throw new Error(`planted bug "${bug.kernel}: ${bug.what}" has ${places} places in its shader`);
  }
  return wgsl.replace(bug.find, () => bug.replace);
}
