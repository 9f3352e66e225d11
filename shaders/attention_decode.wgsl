// Attention of one new token, from the product of its projection to the sum of values, with what
// rope and kv_write do for longer passes:
//   q[h], k[h'] = turned(normed(qkv + bias)), v[h'] = qkv + bias, written to the cache at `position`
//   y[h] = softmax_s(q[h] . k[s, h'] / sqrt(DH) - slopes[h] (position - s)) v[s, h'], s <= position
// with h' the key-value head that H/K query heads share.
//   qkv: f32 [H + 2 K, DH]; bias: the same; weight: [2 DH], norm of queries, norm of keys, with NORM
//   angles: [S, DH/2] of (cos, sin), with TURN, as in rope; keys, values: [S, K, DH],
//   with SCALES as bytes with scales, see kv_write
// One workgroup per head and slice of the cache: `position` earlier tokens make at most SLICES
// slices of at least LEAST, the others return at once, so one grid serves every length. The new
// token belongs to the first slice of each head, and nobody reads its place in the cache.
// With one slice y is [H, DH]. With several a row of y, [H, SLICES, DH + 4], holds the slice's sum,
// its largest score and the total of its weights; attention_combine adds them up.
// Lanes take four positions at a time; tiles, columns and parts are as in attention.

override H: u32; // query heads
override KV_HEADS: u32;
override DH: u32; // width of one head, a multiple of 4
override NORM: bool = false;
override EPS: f32 = 0;
override TURN: bool = true;
override SCALES: u32 = 0; // the word where the scales of keys and of values begin; 0 for none
override SLICES: u32 = 1;
override LEAST: u32 = 64;
override LANES: u32; // a multiple of DH/4
override TILE: u32 = 256; // a multiple of 4

struct Params {
  tokens: u32,
  position: u32, // where the token stands in the sequence
  first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>; // zeros where the model has none
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read> angles: array<vec2f>;
@group(0) @binding(5) var<storage, read> slopes: array<f32>; // [H]
@group(0) @binding(6) var<storage, read_write> keys: array<cached>;
@group(0) @binding(7) var<storage, read_write> values: array<cached>;
@group(0) @binding(8) var<storage, read_write> y: array<vec4<output>>;

const LOWEST = -3.0e38;

var<workgroup> query: array<vec4f, DH / 4>;
var<workgroup> raw_key: array<vec4f, DH / 4>; // before it is rounded to what the cache holds
var<workgroup> raw_value: array<vec4f, DH / 4>;
var<workgroup> new_key: array<vec4f, DH / 4>;
var<workgroup> weights: array<vec4f, TILE / 4>;
var<workgroup> lane_value: array<f32, LANES>;
var<workgroup> lane_sum: array<vec4f, LANES>;

// 1 / rms of a head of qkv.
fn factor(head: u32) -> f32 {
  if (!NORM) { return 1.0; }
  var squares = 0.0;
  for (var i = head * DH; i < (head + 1) * DH; i++) {
    let v = qkv[i] + bias[i];
    squares += v * v;
  }
  return inverseSqrt(squares / f32(DH) + EPS);
}

// Value i of a head before it turns; side: where the norm's weights for it begin.
fn normed(head: u32, i: u32, side: u32, factor: f32) -> f32 {
  let v = qkv[head * DH + i] + bias[head * DH + i];
  if (!NORM) { return v; }
  return v * factor * weight[side + i];
}

fn turned(head: u32, i: u32, side: u32, factor: f32) -> f32 {
  let v = normed(head, i, side, factor);
  if (!TURN) { return v; }
  let pairs = DH / 2;
  let turn = angles[params.position * pairs + i % pairs];
  if (i < pairs) { return v * turn.x - normed(head, i + pairs, side, factor) * turn.y; }
  return v * turn.x + normed(head, i - pairs, side, factor) * turn.y;
}

fn four_turned(head: u32, i: u32, side: u32) -> vec4f {
  let f = factor(head);
  return vec4f(
    turned(head, i, side, f),
    turned(head, i + 1, side, f),
    turned(head, i + 2, side, f),
    turned(head, i + 3, side, f),
  );
}

fn four_values(head: u32, i: u32) -> vec4f {
  let at = head * DH + i;
  return vec4f(qkv[at], qkv[at + 1], qkv[at + 2], qkv[at + 3]) +
    vec4f(bias[at], bias[at + 1], bias[at + 2], bias[at + 3]);
}

fn scores(at: vec4u) -> vec4f {
  var sums = vec4f();
  for (var i = 0u; i < DH / 4; i++) {
    sums += query[i] * mat4x4f(
      of_cache(keys[at.x + i]), of_cache(keys[at.y + i]),
      of_cache(keys[at.z + i]), of_cache(keys[at.w + i]),
    );
  }
  return sums;
}

fn key_scales(at: vec4u) -> vec4f {
  if (SCALES == 0) { return vec4f(1); }
  let p = SCALES + at;
  return vec4f(of_scale(keys[p.x]), of_scale(keys[p.y]), of_scale(keys[p.z]), of_scale(keys[p.w]));
}

fn value_scales(at: vec4u) -> vec4f {
  if (SCALES == 0) { return vec4f(1); }
  let p = SCALES + at;
  return vec4f(
    of_scale(values[p.x]), of_scale(values[p.y]), of_scale(values[p.z]), of_scale(values[p.w]),
  );
}

// The largest size among the values of the new key and of the new value.
fn new_scales() -> vec2f {
  var sizes = vec4f();
  var others = vec4f();
  for (var i = 0u; i < DH / 4; i++) {
    sizes = max(sizes, abs(raw_key[i]));
    others = max(others, abs(raw_value[i]));
  }
  return vec2f(
    max(max(sizes.x, sizes.y), max(sizes.z, sizes.w)),
    max(max(others.x, others.y), max(others.z, others.w)),
  );
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let slice = group.x % SLICES;
  let head = group.x / SLICES;
  let length = max(LEAST, ((params.position + SLICES - 1) / SLICES + 3) / 4 * 4);
  let begin = slice * length;
  if (slice > 0 && begin >= params.position) { return; }
  let end = min(begin + length, params.position);

  let columns = DH / 4;
  let parts = LANES / columns;
  let column = lane % columns;
  let part = lane / columns;
  let shared_head = head / (H / KV_HEADS);
  let stride = KV_HEADS * columns; // from one position to the next in the cache
  let offset = shared_head * columns;
  var new_value = vec4f();
  if (lane < columns) {
    query[lane] = four_turned(head, lane * 4, 0) * inverseSqrt(f32(DH));
    if (slice == 0) {
      raw_key[lane] = four_turned(H + shared_head, lane * 4, DH);
      raw_value[lane] = four_values(H + KV_HEADS + shared_head, lane * 4);
    }
  }
  if (SCALES > 0) { workgroupBarrier(); }
  if (lane < columns && slice == 0) {
    var sizes = vec2f(1);
    var shares = vec2f(1);
    if (SCALES > 0) {
      sizes = new_scales();
      shares = select(vec2f(), 1 / sizes, sizes > vec2f(1e-30));
    }
    let key = to_cache(raw_key[lane] * shares.x);
    let value = to_cache(raw_value[lane] * shares.y);
    new_key[lane] = of_cache(key) * sizes.x;
    new_value = of_cache(value) * sizes.y;
    if (head % (H / KV_HEADS) == 0) {
      keys[params.position * stride + offset + lane] = key;
      values[params.position * stride + offset + lane] = value;
      if (SCALES > 0 && lane == 0) {
        let place = SCALES + params.position * KV_HEADS + shared_head;
        keys[place] = to_scale(sizes.x);
        values[place] = to_scale(sizes.y);
      }
    }
  }
  workgroupBarrier();

  var largest = LOWEST;
  var total = 0.0; // of the weights this lane made
  var sum = vec4f(); // of this lane's column and part
  if (slice == 0) {
    largest = 0.0;
    for (var i = 0u; i < columns; i++) { largest += dot(query[i], new_key[i]); }
    total = select(0.0, 1.0, lane == 0);
    sum = new_value;
  }
  for (var start = begin; start < end; start += TILE) {
    let fours = (min(TILE, end - start) + 3) / 4;
    var mine = LOWEST;
    for (var i = lane; i < fours; i += LANES) {
      let p = vec4u(start + i * 4) + vec4u(0, 1, 2, 3);
      let place = min(p, vec4u(end - 1)) * KV_HEADS + shared_head;
      let s = scores(place * columns) * key_scales(place) -
        slopes[head] * vec4f(vec4u(params.position) - p);
      let known = select(vec4f(LOWEST), s, p < vec4u(end));
      weights[i] = known;
      mine = max(mine, max(max(known.x, known.y), max(known.z, known.w)));
    }
    lane_value[lane] = mine;
    workgroupBarrier();
    let before = largest;
    for (var i = 0u; i < LANES; i++) { largest = max(largest, lane_value[i]); }
    let shrink = exp(before - largest);
    total *= shrink;
    sum *= shrink;
    for (var i = lane; i < fours; i += LANES) {
      let four = exp(weights[i] - largest);
      let p = min(vec4u(start + i * 4) + vec4u(0, 1, 2, 3), vec4u(end - 1));
      weights[i] = four * value_scales(p * KV_HEADS + shared_head);
      total += dot(four, vec4f(1));
    }
    workgroupBarrier();
    for (var i = part; i < fours; i += parts) {
      let p = min(vec4u(start + i * 4) + vec4u(0, 1, 2, 3), vec4u(end - 1));
      let at = p * stride + offset + column;
      sum += mat4x4f(
        of_cache(values[at.x]), of_cache(values[at.y]),
        of_cache(values[at.z]), of_cache(values[at.w]),
      ) * weights[i];
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
  if (SLICES == 1) {
    y[head * columns + lane] = vec4<output>(sum / total);
    return;
  }
  let to = group.x * (columns + 1);
  y[to + lane] = vec4<output>(sum);
  if (lane == 0) { y[to + columns] = vec4<output>(vec4f(largest, total, 0, 0)); }
}
