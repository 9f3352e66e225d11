// The token router of the MoE-Adapter, for all linears that share an input:
//   gates[t, s, 0] = SCALE (the universal expert is always on)
//   gates[t, s, 1 + i] = SCALE * softmax_i(sum_k R[s, i, k] x[t, k]), without noise, in f32
//   router: f16 [S, E - 1, K]; x: [T, K]; gates: f32 [T, S, E]; SCALE = alpha / r
// One workgroup per linear (x) and token (z).

override K: u32; // columns
override LINEARS: u32; // S
override EXPERTS: u32; // E, the universal expert included
override SCALE: f32;
override WG: u32 = 64;

@group(0) @binding(0) var<storage, read> router: array<half4>;
@group(0) @binding(1) var<storage, read> x: array<vec4<elem>>;
@group(0) @binding(2) var<storage, read_write> gates: array<f32>;

var<workgroup> partial: array<f32, (EXPERTS - 1) * WG>;
var<workgroup> scores: array<f32, EXPERTS - 1>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let specific = EXPERTS - 1;
  for (var e = 0u; e < specific; e++) {
    let row = (group.x * specific + e) * (K / 4);
    var sum = 0.0;
    for (var i = lane; i < K / 4; i += WG) {
      sum += dot(of_half4(router[row + i]), vec4f(x[group.z * (K / 4) + i]));
    }
    partial[e * WG + lane] = sum;
  }
  workgroupBarrier();
  for (var e = lane; e < specific; e += WG) {
    var sum = 0.0;
    for (var i = 0u; i < WG; i++) { sum += partial[e * WG + i]; }
    scores[e] = sum;
  }
  workgroupBarrier();
  var largest = scores[0];
  for (var e = 1u; e < specific; e++) { largest = max(largest, scores[e]); }
  var total = 0.0;
  for (var e = 0u; e < specific; e++) { total += exp(scores[e] - largest); }
  let to = (group.z * LINEARS + group.x) * EXPERTS;
  if (lane == 0) { gates[to] = SCALE; }
  for (var e = lane; e < specific; e += WG) {
    gates[to + 1 + e] = SCALE * exp(scores[e] - largest) / total;
  }
}
