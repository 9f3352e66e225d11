// Matrix times vector with 4-bit weights, with what stands before and after it in a layer:
//   y[t, FROM + n] (+)= r[t] * (sum_k W[n, k] x[t, k] weight[k] + sum_j B[n, j] z[t, s(n), j])
//   w: one row block of W: the q plane, 8 nibbles a word, [N, K/8] u32, LSB first along K, then the
//   scale plane, f16 [N, K/32]; W[n, k] = (q - 8) * scale, so one vec4<u32> is one group, one scale
//   x: [T, K]; y: [T, Y]
// With NORM, r = 1 / rms(x) and weight is that of the norm (rms_norm); else both are 1.
// With P, B adds the adapter: factor4 [B_ROWS, P], beginning at row B_FROM of W; z: f32
// [T, LINEARS, P] as adapter_down makes it; s(n) counts how many of MIDDLE and LAST row n of B has reached.
// With SILU, y[t, n] = silu(row n) * row n + N/2, [T, N/2]: the MLP's gate.
// A team of LANES invocations shares four rows (with SILU four pairs), each lane a share of their
// groups; z walks the tokens. Nibbles are masked where they stand, not shifted down: x is divided by 16^i
// instead. The -8 of a group is taken off once: sum (q - 8) x = sum q x - 8 sum x.
// With TOKENS = 2 an invocation takes two tokens, for whom it unpacks a group once: in software that
// takes longer than the products. LANES is 1 then, without NORM and INT8.
// With INT8, x (with the norm's weight) becomes signed bytes with a scale for every 32 columns, and
// four products are one instruction: WG lanes stage BYTES groups, multiply them, stage the next.
// A team's sums are added by shuffles among SUBGROUP lanes, then through workgroup memory.

override K: u32; // columns
override N: u32; // rows of this block
override FROM: u32 = 0; // the first of them in W
override Y: u32; // values from one token to the next in y
override ADD: bool = false; // add to y instead of writing it
override NORM: bool = false;
override EPS: f32 = 0;
override STAGE: u32 = 1; // K/4 where x with the norm's weight goes to workgroup memory
override SILU: bool = false;
override P: u32 = 0; // columns of B, a multiple of 4
override B_FROM: u32 = 0;
override B_ROWS: u32 = 1;
override MIDDLE: u32 = 0; // rows of B where the second and the third linear begin
override LAST: u32 = 0;
override LINEARS: u32 = 1;
override ALIGNED: bool = false; // linears begin at multiples of four rows of this block
override TOKENS: u32 = 1;
override INT8: bool = false;
override BYTES: u32 = 1; // groups that are staged at a time, with INT8
override LANES: u32 = 1; // a power of two, divides WG
override SUBGROUP: u32 = 1; // lanes that can shuffle, a power of two, at most LANES
override WG: u32 = 64;

const FOLD = 32768u; // workgroups beyond this many go to the next y
const NIBBLES = vec4u(0xf, 0xf0, 0xf00, 0xf000);
const LOW = vec4u(0x0f0f0f0f);
const ONES = 0x01010101u; // four bytes
const PLACES = vec4f(1.0, 1.0 / 16.0, 1.0 / 256.0, 1.0 / 4096.0);

struct Params {
  tokens: u32, // T, the tokens in this pass
  position: u32, // where the first of them stands in the sequence
  first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> w: array<vec4u>;
@group(0) @binding(2) var<storage, read> x: array<vec4<input>>;
@group(0) @binding(3) var<storage, read> weight: array<vec4f>;
@group(0) @binding(4) var<storage, read> b: array<factor4>;
@group(0) @binding(5) var<storage, read> z: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> y: array<output>;

var<workgroup> partial: array<vec4f, WG>;
var<workgroup> partial_pairs: array<vec4f, WG>;
var<workgroup> partial_squares: array<f32, WG>;
var<workgroup> staged: array<vec4f, STAGE>;
var<workgroup> bytes: array<vec4u, BYTES * 2>; // of a group its even columns, then its odd ones
var<workgroup> byte_scales: array<vec2f, BYTES>; // value of a unit, 8 * the sum of the bytes

// Four columns k of four rows from one half word of each row; column i is scaled by 16^i.
fn nibbles(q: vec4u) -> mat4x4f {
  return mat4x4f(
    vec4f(vec4i(q.xxxx & NIBBLES)),
    vec4f(vec4i(q.yyyy & NIBBLES)),
    vec4f(vec4i(q.zzzz & NIBBLES)),
    vec4f(vec4i(q.wwww & NIBBLES)),
  );
}

// The same from whole words: eight columns.
struct Columns { low: mat4x4f, high: mat4x4f }

fn columns(q: vec4u) -> Columns {
  return Columns(nibbles(q), nibbles(q >> vec4u(16)));
}

fn scale(group: u32) -> f32 {
  let word = w[N * (K / 32) + group / 8][group / 2 % 4];
  return unpack2x16float(word >> (group % 2 * 16)).x;
}

// Four columns of B z: `four` of each row, z from `at` on for each row.
fn adapted_four(four: mat4x4f, at: vec4u) -> vec4f {
  if (ALIGNED) { return z[at.x] * four; }
  return vec4f(
    dot(four[0], z[at.x]),
    dot(four[1], z[at.y]),
    dot(four[2], z[at.z]),
    dot(four[3], z[at.w]),
  );
}

// This lane's share of B z for the rows from `row` on, of each token; nothing where B has no such rows.
fn adapted(row: u32, token: u32, lane: u32) -> mat2x4f {
  let n = vec4u(row, row + 1, row + 2, row + 3) + FROM - B_FROM; // wraps above every row of B
  let at = min(n, vec4u(B_ROWS - 1)) * (P / 4);
  let linear = select(vec4u(), vec4u(1), n >= vec4u(MIDDLE)) +
    select(vec4u(), vec4u(1), n >= vec4u(LAST));
  let source = (token * LINEARS + min(linear, vec4u(LINEARS - 1))) * (P / 4);
  var one = vec4f();
  var two = vec4f();
  for (var j = lane; j < P / 4; j += LANES) {
    let four = mat4x4f(
      of_factor4(b[at.x + j]),
      of_factor4(b[at.y + j]),
      of_factor4(b[at.z + j]),
      of_factor4(b[at.w + j]),
    );
    one += adapted_four(four, source + j);
    if (TOKENS > 1) { two += adapted_four(four, source + LINEARS * (P / 4) + j); }
  }
  let within = n < vec4u(B_ROWS);
  return mat2x4f(select(vec4f(), one, within), select(vec4f(), two, within));
}

// Four columns of x, with the norm's weight.
fn fetch(token: u32, i: u32) -> vec4f {
  if (STAGE > 1) { return staged[i]; }
  if (NORM) { return vec4f(x[token + i]) * weight[i]; }
  return vec4f(x[token + i]);
}

// Sum over the 32 columns from 4 * at on of (q - 8) x, for four rows and one token.
fn group_product(q: array<Columns, 4>, token: u32, at: u32) -> vec4f {
  let x0 = fetch(token, at);
  let x1 = fetch(token, at + 1);
  let x2 = fetch(token, at + 2);
  let x3 = fetch(token, at + 3);
  let x4 = fetch(token, at + 4);
  let x5 = fetch(token, at + 5);
  let x6 = fetch(token, at + 6);
  let x7 = fetch(token, at + 7);
  let offset = 8 * dot(x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7, vec4f(1));
  return (x0 * PLACES) * q[0].low + (x1 * PLACES) * q[0].high +
    (x2 * PLACES) * q[1].low + (x3 * PLACES) * q[1].high +
    (x4 * PLACES) * q[2].low + (x5 * PLACES) * q[2].high +
    (x6 * PLACES) * q[3].low + (x7 * PLACES) * q[3].high - offset;
}

// This lane's share of W x for four rows, whose groups begin at `rows`, of each token.
fn product(rows: vec4u, token: u32, lane: u32) -> mat2x4f {
  var sums = mat2x4f();
  for (var g = lane; g < K / 32; g += LANES) {
    let q0 = w[rows.x + g];
    let q1 = w[rows.y + g];
    let q2 = w[rows.z + g];
    let q3 = w[rows.w + g];
    let q = array<Columns, 4>(
      columns(vec4u(q0.x, q1.x, q2.x, q3.x)),
      columns(vec4u(q0.y, q1.y, q2.y, q3.y)),
      columns(vec4u(q0.z, q1.z, q2.z, q3.z)),
      columns(vec4u(q0.w, q1.w, q2.w, q3.w)),
    );
    let scales = vec4f(scale(rows.x + g), scale(rows.y + g), scale(rows.z + g), scale(rows.w + g));
    sums[0] += scales * group_product(q, token, g * 8);
    if (TOKENS > 1) { sums[1] += scales * group_product(q, token + K / 4, g * 8); }
  }
  return sums;
}

// Turns the groups from `first` on into bytes: the largest value of each is 127.
fn stage_bytes(token: u32, first: u32, lane: u32) {
  let end = min(first + BYTES, K / 32);
  for (var g = first + lane; g < end; g += WG) {
    var largest = 0.0;
    for (var i = g * 8; i < g * 8 + 8; i++) {
      let v = abs(fetch(token, i));
      largest = max(largest, max(max(v.x, v.y), max(v.z, v.w)));
    }
    let factor = select(0.0, 1 / largest, largest > 1e-30);
    var evens: vec4u;
    var odds: vec4u;
    var sum = 0;
    for (var i = 0u; i < 4; i++) {
      let a = fetch(token, g * 8 + i * 2) * factor;
      let b = fetch(token, g * 8 + i * 2 + 1) * factor;
      evens[i] = pack4x8snorm(vec4f(a.xz, b.xz));
      odds[i] = pack4x8snorm(vec4f(a.yw, b.yw));
      sum += dot8(evens[i], ONES) + dot8(odds[i], ONES);
    }
    bytes[(g - first) * 2] = evens;
    bytes[(g - first) * 2 + 1] = odds;
    byte_scales[g - first] = vec2f(largest / 127, f32(8 * sum));
  }
}

// Sum of the 32 products of a group of one row.
fn byte_dot(q: vec4u, evens: vec4u, odds: vec4u) -> i32 {
  let low = q & LOW;
  let high = (q >> vec4u(4)) & LOW;
  return dot8(low.x, evens.x) + dot8(low.y, evens.y) + dot8(low.z, evens.z) + dot8(low.w, evens.w) +
    dot8(high.x, odds.x) + dot8(high.y, odds.y) + dot8(high.z, odds.z) + dot8(high.w, odds.w);
}

// `product` of the groups that are staged.
fn byte_product(rows: vec4u, first: u32, lane: u32) -> vec4f {
  var sums = vec4f();
  let end = min(first + BYTES, K / 32);
  for (var g = first + lane; g < end; g += LANES) {
    let evens = bytes[(g - first) * 2];
    let odds = bytes[(g - first) * 2 + 1];
    let unit = byte_scales[g - first];
    let products = vec4f(vec4i(
      byte_dot(w[rows.x + g], evens, odds),
      byte_dot(w[rows.y + g], evens, odds),
      byte_dot(w[rows.z + g], evens, odds),
      byte_dot(w[rows.w + g], evens, odds),
    ));
    let scales = vec4f(scale(rows.x + g), scale(rows.y + g), scale(rows.z + g), scale(rows.w + g));
    sums += scales * unit.x * (products - unit.y);
  }
  return sums;
}

// Sum of the squares of x; x with the norm's weight goes to workgroup memory where it fits.
fn prepare(token: u32, lane: u32) -> f32 {
  var squares = 0.0;
  for (var i = lane; i < K / 4; i += WG) {
    let v = vec4f(x[token + i]);
    squares += dot(v, v);
    if (STAGE > 1) { staged[i] = v * weight[i]; }
  }
  partial_squares[lane] = squares;
  workgroupBarrier();
  var total = 0.0;
  for (var i = 0u; i < WG; i++) { total += partial_squares[i]; }
  return total;
}

// What four rows make of y, their sums complete; with SILU `pairs` are those of the other half.
fn write(sums: vec4f, pairs: vec4f, token: u32, row: u32) {
  let to = token * Y + FROM + row;
  for (var i = 0u; i < 4 && row + i < select(N, N / 2, SILU); i++) {
    var value = sums[i];
    // exp of more than 88 is beyond f32, and WGSL leaves open what comes then.
    if (SILU) { value = value / (1 + exp(min(-value, 80))) * pairs[i]; }
    if (ADD) { y[to + i] += output(value); } else { y[to + i] = output(value); }
  }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let team = (group.y * FOLD + group.x) * (WG / LANES) + lane / LANES;
  let row = team * 4;
  let count = select(N, N / 2, SILU);
  let rows = min(vec4u(row, row + 1, row + 2, row + 3), vec4u(count - 1)) * (K / 32);
  let first = group.z * TOKENS;
  let token = first * (K / 4);
  var factor = 1.0;
  if (NORM) { factor = inverseSqrt(prepare(token, lane) / f32(K) + EPS); }
  var sums = mat2x4f();
  var pairs = mat2x4f();
  let second = rows + N / 2 * (K / 32);
  if (INT8) {
    for (var g = 0u; g < K / 32; g += BYTES) {
      if (g > 0) { workgroupBarrier(); }
      stage_bytes(token, g, lane);
      workgroupBarrier();
      sums[0] += byte_product(rows, g, lane % LANES);
      if (SILU) { pairs[0] += byte_product(second, g, lane % LANES); }
    }
  } else {
    sums = product(rows, token, lane % LANES);
    if (SILU) { pairs = product(second, token, lane % LANES); }
  }
  if (P > 0) {
    sums += adapted(row, first, lane % LANES);
    if (SILU) { pairs += adapted(row + N / 2, first, lane % LANES); }
  }
  if (TOKENS > 1) {
    write(sums[0], pairs[0], first, row);
    if (first + 1 < params.tokens) { write(sums[1], pairs[1], first + 1, row); }
    return;
  }
  var all = sums[0];
  var all_pairs = pairs[0];
  for (var step = 1u; step < SUBGROUP; step *= 2) {
    all += shuffled(all, step);
    if (SILU) { all_pairs += shuffled(all_pairs, step); }
  }
  if (LANES > SUBGROUP) {
    partial[lane] = all;
    if (SILU) { partial_pairs[lane] = all_pairs; }
    workgroupBarrier();
  }
  if (lane % LANES != 0) { return; }
  for (var i = SUBGROUP; i < LANES; i += SUBGROUP) {
    all += partial[lane + i];
    if (SILU) { all_pairs += partial_pairs[lane + i]; }
  }
  write(all * factor, all_pairs * factor, first, row);
}
