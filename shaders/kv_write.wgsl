// Writes the keys and values of a pass into the cache of its layer, values with their bias.
//   qkv: f32 [T, Q + 2 KV], queries, keys (theirs is in them), values; bias: [Q + 2 KV]
//   keys, values: [S, KV]
// One invocation per four values; z walks the tokens.

override Q: u32; // width of the queries, H * DH
override KV: u32; // width of keys and of values, K * DH
override WG: u32 = 64;

struct Params {
  tokens: u32, // T, the tokens in this pass
  position: u32, // where the first of them stands in the sequence
  first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<vec4f>;
@group(0) @binding(2) var<storage, read> bias: array<vec4f>; // zeros where the model has none
@group(0) @binding(3) var<storage, read_write> keys: array<vec4<elem>>;
@group(0) @binding(4) var<storage, read_write> values: array<vec4<elem>>;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let width = KV / 4;
  if (id.x >= width) { return; }
  let source = id.z * (Q / 4 + 2 * width) + Q / 4 + id.x;
  let to = (params.position + id.z) * width + id.x;
  keys[to] = vec4<elem>(qkv[source]);
  values[to] = vec4<elem>(qkv[source + width] + bias[Q / 4 + width + id.x]);
}
