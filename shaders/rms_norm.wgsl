// Root mean square norm: y[t] = x[t] / sqrt(mean(x[t]^2) + EPS) * weight.
//   x: f32 [*, K], read from row `first` on; y: [T, K]
// One workgroup per token (z); every lane sums a share of the row.

override K: u32; // width
override EPS: f32;
override WG: u32 = 64;

struct Params {
  tokens: u32, // T, the tokens in this pass
  position: u32, // where the first of them stands in the sequence
  first: u32, // the row of x where y begins
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read> weight: array<vec4f>; // [K/4]
@group(0) @binding(3) var<storage, read_write> y: array<vec4<elem>>;

var<workgroup> partial: array<f32, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = (params.first + group.z) * (K / 4);
  var squares = 0.0;
  for (var i = lane; i < K / 4; i += WG) {
    let v = x[row + i];
    squares += dot(v, v);
  }
  partial[lane] = squares;
  workgroupBarrier();
  var total = 0.0;
  for (var i = 0u; i < WG; i++) { total += partial[i]; }
  let factor = inverseSqrt(total / f32(K) + EPS);
  for (var i = lane; i < K / 4; i += WG) {
    y[group.z * (K / 4) + i] = vec4<elem>(x[row + i] * factor * weight[i]);
  }
}
