// First half of the MoE-Adapter, all experts of the linears that share an input:
//   z[t, s, e r] = gate[t, s, e] * unit[s, e r] * sum_k A[s, e r, k] x[t, k] weight[k]
//   a: factor4 [S * E * R, K], S linears stacked; x: [T, K]; z: f32 [T, S, P], P >= E * R
//   gates: f32, [S, E] for the whole pass (merged) or [T, S, E] (routed), alpha / r folded in
//   units: f32 [S * E * R], of A's rows times those of B's columns: B z has its true size then
// With WEIGH, weight is that of the norm before the linears, and what multiplies x by 1 / rms(x)
// comes with matvec_q4; else it is 1. A team of LANES invocations shares four rows of A; z walks the
// tokens.

override K: u32; // columns
override LINEARS: u32; // S
override EXPERTS: u32; // E, the universal expert included
override RANK: u32; // R
override P: u32; // floats from one linear to the next in z
override GATE_STRIDE: u32; // 0 where gates hold for the whole pass, else S * E
override WEIGH: bool = false;
override LANES: u32 = 1; // a power of two, divides WG
override WG: u32 = 64;

@group(0) @binding(0) var<storage, read> a: array<factor4>;
@group(0) @binding(1) var<storage, read> x: array<vec4<input>>;
@group(0) @binding(2) var<storage, read> weight: array<vec4f>;
@group(0) @binding(3) var<storage, read> gates: array<f32>;
@group(0) @binding(4) var<storage, read> units: array<f32>;
@group(0) @binding(5) var<storage, read_write> z: array<f32>;

var<workgroup> partial: array<vec4f, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let count = LINEARS * EXPERTS * RANK;
  let row = (group.x * (WG / LANES) + lane / LANES) * 4;
  let rows = min(vec4u(row, row + 1, row + 2, row + 3), vec4u(count - 1)) * (K / 4);
  let token = group.z * (K / 4);
  var sums = vec4f();
  for (var i = lane % LANES; i < K / 4; i += LANES) {
    var v = vec4f(x[token + i]);
    if (WEIGH) { v *= weight[i]; }
    let four = mat4x4f(
      of_factor4(a[rows.x + i]),
      of_factor4(a[rows.y + i]),
      of_factor4(a[rows.z + i]),
      of_factor4(a[rows.w + i]),
    );
    sums += v * four;
  }
  if (LANES > 1) {
    partial[lane] = sums;
    workgroupBarrier();
    if (lane % LANES != 0) { return; }
    for (var i = 1u; i < LANES; i++) { sums += partial[lane + i]; }
  }
  for (var i = 0u; i < 4 && row + i < count; i++) {
    let linear = (row + i) / (EXPERTS * RANK);
    let j = (row + i) % (EXPERTS * RANK);
    let gate = gates[group.z * GATE_STRIDE + linear * EXPERTS + j / RANK];
    z[(group.z * LINEARS + linear) * P + j] = gate * units[row + i] * sums[i];
  }
}
