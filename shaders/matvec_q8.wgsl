// Matrix times vector with 8-bit weights: y[t, FROM + n] = sum_k W[n, k] x[t, k].
//   w: one row block of W: the q plane, u8 [N, K], then the scale plane, f16 [N, K/32];
//   W[n, k] = (q - 128) * scale, so two vec4<u32> are one group of 32 with one scale
//   x: [T, K]; y: f32 [T, Y]
// Teams, lanes and masks as in matvec_q4. One word of a row is four columns.

override K: u32; // columns
override N: u32; // rows of this block
override FROM: u32 = 0; // the first of them in W
override Y: u32; // rows of W
override LANES: u32 = 1; // a power of two, divides WG
override WG: u32 = 64;

const FOLD = 32768u; // workgroups beyond this many go to the next y
const BYTES = vec4u(0xff, 0xff00, 0xff, 0xff00);
const PLACES = vec4f(1.0, 1.0 / 256.0, 1.0, 1.0 / 256.0);

@group(0) @binding(0) var<storage, read> w: array<vec4u>;
@group(0) @binding(1) var<storage, read> x: array<vec4<elem>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

var<workgroup> partial: array<vec4f, WG>;

// Four columns k of four rows from one word of each row; odd columns are scaled by 256.
fn bytes(q: vec4u) -> mat4x4f {
  let h = q >> vec4u(16);
  return mat4x4f(
    vec4f(vec4i(vec4u(q.xx, h.xx) & BYTES)),
    vec4f(vec4i(vec4u(q.yy, h.yy) & BYTES)),
    vec4f(vec4i(vec4u(q.zz, h.zz) & BYTES)),
    vec4f(vec4i(vec4u(q.ww, h.ww) & BYTES)),
  );
}

// Sum over sixteen columns of q x, for four rows; x: their four vec4s.
fn sixteen(q0: vec4u, q1: vec4u, q2: vec4u, q3: vec4u, v: mat4x4f) -> vec4f {
  return (v[0] * PLACES) * bytes(vec4u(q0.x, q1.x, q2.x, q3.x)) +
    (v[1] * PLACES) * bytes(vec4u(q0.y, q1.y, q2.y, q3.y)) +
    (v[2] * PLACES) * bytes(vec4u(q0.z, q1.z, q2.z, q3.z)) +
    (v[3] * PLACES) * bytes(vec4u(q0.w, q1.w, q2.w, q3.w));
}

fn values(at: u32) -> mat4x4f {
  return mat4x4f(vec4f(x[at]), vec4f(x[at + 1]), vec4f(x[at + 2]), vec4f(x[at + 3]));
}

fn scale(group: u32) -> f32 {
  let word = w[N * (K / 16) + group / 8][group / 2 % 4];
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
    let i = rows * 2 + vec4u(g * 2);
    let low = values(token + g * 8);
    let high = values(token + g * 8 + 4);
    let products = sixteen(w[i.x], w[i.y], w[i.z], w[i.w], low) +
      sixteen(w[i.x + 1], w[i.y + 1], w[i.z + 1], w[i.w + 1], high);
    let offset = 128 * dot((low + high) * vec4f(1), vec4f(1));
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
  for (var i = 0u; i < 4 && row + i < N; i++) { y[out + i] = sums[i]; }
}
