// Causal attention over the cache:
//   y[t, h] = softmax_s(q[t, h] . k[s, h'] / sqrt(DH) - slopes[h] (position + t - s)) v[s, h'],
// s <= position + t, with h' the key-value head that H/K query heads share. Slopes are those of
// linear biases (ALiBi), zeros where positions are rotary.
//   qkv: f32 [T, ROW], the queries first; keys, values: [S, K, DH], as kv_write makes them; y: [T, H, DH]
// One workgroup per head (x) and token (z). Positions come in tiles of TILE: the lanes make the
// scores of a tile, agree on the largest so far, and add the weighted values to sums that are
// rescaled when the largest changes (softmax online), so any length fits. A sum belongs to one
// column of four values and to one of the PARTS that share a tile; they are added at the end.

override H: u32; // query heads
override KV_HEADS: u32;
override DH: u32; // width of one head, a multiple of 4
override ROW: u32; // floats from one token's queries to the next
override SCALES: u32 = 0; // the word where the scales of keys and of values begin; 0 for none
override LANES: u32; // a multiple of DH/4
override TILE: u32 = 256;

struct Params {
  tokens: u32, // T, the tokens in this pass
  position: u32, // where the first of them stands in the sequence
  first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<vec4f>;
@group(0) @binding(2) var<storage, read> keys: array<cached>;
@group(0) @binding(3) var<storage, read> values: array<cached>;
@group(0) @binding(4) var<storage, read> slopes: array<f32>; // [H]
@group(0) @binding(5) var<storage, read_write> y: array<vec4<elem>>;

const LOWEST = -3.0e38;

var<workgroup> query: array<vec4f, DH / 4>;
var<workgroup> weights: array<f32, TILE>;
var<workgroup> lane_value: array<f32, LANES>;
var<workgroup> lane_sum: array<vec4f, LANES>;

fn score(start: u32) -> f32 {
  var sum = 0.0;
  for (var i = 0u; i < DH / 4; i++) { sum += dot(query[i], of_cache(keys[start + i])); }
  return sum;
}

fn key_scale(place: u32) -> f32 {
  if (SCALES == 0) { return 1.0; }
  return of_scale(keys[SCALES + place]);
}

fn value_scale(place: u32) -> f32 {
  if (SCALES == 0) { return 1.0; }
  return of_scale(values[SCALES + place]);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let columns = DH / 4;
  let parts = LANES / columns;
  let column = lane % columns;
  let part = lane / columns;
  let stride = KV_HEADS * columns; // from one position to the next in the cache
  let shared_head = group.x / (H / KV_HEADS);
  let head = shared_head * columns;
  let length = params.position + group.z + 1; // S, the positions this token sees
  let slope = slopes[group.x];
  if (lane < columns) {
    query[lane] = qkv[group.z * (ROW / 4) + group.x * columns + lane] * inverseSqrt(f32(DH));
  }
  workgroupBarrier();

  var largest = LOWEST;
  var total = 0.0; // of the weights this lane made
  var sum = vec4f(); // of this lane's column and part
  for (var start = 0u; start < length; start += TILE) {
    let count = min(TILE, length - start);
    var mine = LOWEST;
    for (var i = lane; i < count; i += LANES) {
      let distance = f32(length - 1 - start - i);
      let place = (start + i) * KV_HEADS + shared_head;
      let s = score(place * columns) * key_scale(place) - slope * distance;
      weights[i] = s;
      mine = max(mine, s);
    }
    lane_value[lane] = mine;
    workgroupBarrier();
    let before = largest;
    for (var i = 0u; i < LANES; i++) { largest = max(largest, lane_value[i]); }
    let shrink = exp(before - largest);
    total *= shrink;
    sum *= shrink;
    for (var i = lane; i < count; i += LANES) {
      let weight = exp(weights[i] - largest);
      weights[i] = weight * value_scale((start + i) * KV_HEADS + shared_head);
      total += weight;
    }
    workgroupBarrier();
    for (var i = part; i < count; i += parts) {
      sum += weights[i] * of_cache(values[(start + i) * stride + head + column]);
    }
    workgroupBarrier();
  }

  lane_value[lane] = total;
  lane_sum[lane] = sum;
  workgroupBarrier();
  if (lane >= columns) { return; }
  total = 0.0;
  for (var i = 0u; i < LANES; i++) { total += lane_value[i]; }
  for (var i = 1u; i < parts; i++) { sum += lane_sum[i * columns + lane]; }
  y[(group.z * H + group.x) * columns + lane] = vec4<elem>(sum / total);
}
