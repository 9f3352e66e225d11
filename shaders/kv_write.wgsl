// Writes the keys and values of a pass into the cache of its layer, values with their bias.
//   qkv: f32 [T, Q + 2 KV], queries, keys (theirs is in them), values; bias: [Q + 2 KV]
//   keys, values: [S, KV]; with SCALES bytes, and from that word on f32 [S, KV / DH]: the largest
//   of a head, which 127 stands for
// One invocation per four values; z walks the tokens.

override Q: u32; // width of the queries, H * DH
override KV: u32; // width of keys and of values, K * DH
override DH: u32; // width of one head
override SCALES: u32 = 0;
override WG: u32 = 64;

struct Params {
  tokens: u32, // T, the tokens in this pass
  position: u32, // where the first of them stands in the sequence
  first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<vec4f>;
@group(0) @binding(2) var<storage, read> bias: array<vec4f>; // zeros where the model has none
@group(0) @binding(3) var<storage, read_write> keys: array<cached>;
@group(0) @binding(4) var<storage, read_write> values: array<cached>;

fn largest(v: vec4f) -> f32 {
  let sizes = abs(v);
  return max(max(sizes.x, sizes.y), max(sizes.z, sizes.w));
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let width = KV / 4;
  if (id.x >= width) { return; }
  let source = id.z * (Q / 4 + 2 * width) + Q / 4 + id.x;
  let to = (params.position + id.z) * width + id.x;
  var shares = vec2f(1); // of key and value in what is written
  if (SCALES > 0) {
    let columns = DH / 4;
    let column = id.x % columns;
    var scales = vec2f();
    for (var i = 0u; i < columns; i++) {
      let at = source - column + i;
      let value = qkv[at + width] + bias[Q / 4 + width + id.x - column + i];
      scales = max(scales, vec2f(largest(qkv[at]), largest(value)));
    }
    shares = select(vec2f(), 1 / scales, scales > vec2f(1e-30));
    if (column == 0) {
      keys[SCALES + to / columns] = to_scale(scales.x);
      values[SCALES + to / columns] = to_scale(scales.y);
    }
  }
  keys[to] = to_cache(qkv[source] * shares.x);
  values[to] = to_cache((qkv[source + width] + bias[Q / 4 + width + id.x]) * shares.y);
}
