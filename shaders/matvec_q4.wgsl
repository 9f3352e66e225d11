// Matrix times vector with 4-bit weights: y[t, FROM + n] (+)= sum_k W[n, k] x[t, k].
//   w: one row block of W: the q plane, 8 nibbles a word, [N, K/8] u32, LSB first along K, then the
//   scale plane, f16 [N, K/32]; W[n, k] = (q - 8) * scale, so one vec4<u32> is one group, one scale
//   x: [T, K]; y: f32 [T, Y]
// A team of LANES invocations shares four rows, each lane a share of their groups; z walks the
// tokens. Nibbles are masked where they stand, not shifted down: x is divided by 16^i instead.
// The -8 of a group is taken off once: sum (q - 8) x = sum q x - 8 sum x.

override K: u32; // columns
override N: u32; // rows of this block
override FROM: u32 = 0; // the first of them in W
override Y: u32; // rows of W
override ADD: bool = false; // add to y instead of writing it
override LANES: u32 = 1; // a power of two, divides WG
override WG: u32 = 64;

const FOLD = 32768u; // workgroups beyond this many go to the next y
const NIBBLES = vec4u(0xf, 0xf0, 0xf00, 0xf000);
const PLACES = vec4f(1.0, 1.0 / 16.0, 1.0 / 256.0, 1.0 / 4096.0);

@group(0) @binding(0) var<storage, read> w: array<vec4u>;
@group(0) @binding(1) var<storage, read> x: array<vec4<elem>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

var<workgroup> partial: array<vec4f, WG>;

// Four columns k of four rows from one half word of each row; column i is scaled by 16^i.
fn nibbles(q: vec4u) -> mat4x4f {
  return mat4x4f(
    vec4f(vec4i(q.xxxx & NIBBLES)),
    vec4f(vec4i(q.yyyy & NIBBLES)),
    vec4f(vec4i(q.zzzz & NIBBLES)),
    vec4f(vec4i(q.wwww & NIBBLES)),
  );
}

// Sum over eight columns of q x, for four rows: one word of each, and the values of x.
fn eight(q: vec4u, a: vec4f, b: vec4f) -> vec4f {
  return (a * PLACES) * nibbles(q) + (b * PLACES) * nibbles(q >> vec4u(16));
}

fn scale(group: u32) -> f32 {
  let word = w[N * (K / 32) + group / 8][group / 2 % 4];
  return unpack2x16float(word >> (group % 2 * 16)).x;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let team = (group.y * FOLD + group.x) * (WG / LANES) + lane / LANES;
  let row = team * 4;
  let rows = min(vec4u(row, row + 1, row + 2, row + 3), vec4u(N - 1)) * (K / 32);
  let token = group.z * (K / 4);
  var sums = vec4f();
  for (var g = lane % LANES; g < K / 32; g += LANES) {
    let q0 = w[rows.x + g];
    let q1 = w[rows.y + g];
    let q2 = w[rows.z + g];
    let q3 = w[rows.w + g];
    let at = token + g * 8;
    let x0 = vec4f(x[at]);
    let x1 = vec4f(x[at + 1]);
    let x2 = vec4f(x[at + 2]);
    let x3 = vec4f(x[at + 3]);
    let x4 = vec4f(x[at + 4]);
    let x5 = vec4f(x[at + 5]);
    let x6 = vec4f(x[at + 6]);
    let x7 = vec4f(x[at + 7]);
    let offset = 8 * dot(x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7, vec4f(1));
    let products = eight(vec4u(q0.x, q1.x, q2.x, q3.x), x0, x1) +
      eight(vec4u(q0.y, q1.y, q2.y, q3.y), x2, x3) +
      eight(vec4u(q0.z, q1.z, q2.z, q3.z), x4, x5) +
      eight(vec4u(q0.w, q1.w, q2.w, q3.w), x6, x7);
    let scales = vec4f(scale(rows.x + g), scale(rows.y + g), scale(rows.z + g), scale(rows.w + g));
    sums += scales * (products - offset);
  }
  if (LANES > 1) {
    partial[lane] = sums;
    workgroupBarrier();
    if (lane % LANES != 0) { return; }
    for (var i = 1u; i < LANES; i++) { sums += partial[lane + i]; }
  }
  let out = group.z * Y + FROM + row;
  for (var i = 0u; i < 4 && row + i < N; i++) {
    if (ADD) { y[out + i] += sums[i]; } else { y[out + i] = sums[i]; }
  }
}
