// Attention of one new token, from the product of its projection to the sum of values, with what
// rope and kv_write do for longer passes:
//   q[h], k[h'] = turned(normed(qkv + bias)), v[h'] = qkv + bias, written to the cache at `position`
//   y[h] = softmax_s(q[h] . k[s, h'] / sqrt(DH) - slopes[h] (position - s)) v[s, h'], s <= position
// with h' the key-value head that H/K query heads share.
//   qkv: f32 [H + 2 K, DH]; bias: the same; weight: [2 DH], norm of queries, norm of keys, with NORM
//   angles: [S, DH/2] of (cos, sin), with TURN, as in rope; keys, values: [S, K, DH],
//   with SCALES as bytes with scales, see kv_write
// One workgroup per team and slice of the cache. A team is TEAM query heads that share keys and values,
// which are then read once for all of them; the last team of a key-value head may have fewer, and
// computes its last head again. `position` earlier tokens make at most SLICES slices of at least
// LEAST, the others return at once, so one grid serves every length. The new token belongs to the first
// slice of each head, and nobody reads its place in the cache.
// With one slice y is [H, DH]. With several a row of y, [H, SLICES, DH + 4], holds the slice's sum,
// its largest score and the total of its weights; attention_combine adds them up.
// Lanes take four positions at a time; tiles, columns and parts are as in attention. What every head of
// a team has of its own stands in x, y, z, w of a vector, or in the columns of a matrix: an index that
// is known to the compiler keeps them in registers.

override H: u32; // query heads
override KV_HEADS: u32;
override DH: u32; // width of one head, a multiple of 4
override NORM: bool = false;
override EPS: f32 = 0;
override TURN: bool = true;
override SCALES: u32 = 0; // the word where the scales of keys and of values begin; 0 for none
override SLICES: u32 = 1;
override LEAST: u32 = 64;
override TEAM: u32 = 1; // 1 to 4
override LANES: u32; // a multiple of DH/4
override TILE: u32 = 256; // a multiple of 4
override FOURS: u32 = TILE / 4; // of one head's weights

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

var<workgroup> query: array<vec4f, TEAM * DH / 4>;
var<workgroup> raw_key: array<vec4f, DH / 4>; // before it is rounded to what the cache holds
var<workgroup> raw_value: array<vec4f, DH / 4>;
var<workgroup> new_key: array<vec4f, DH / 4>;
var<workgroup> weights: array<vec4f, TEAM * FOURS>;
var<workgroup> lane_value: array<f32, TEAM * LANES>;
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

// Of four positions for every head of the team.
fn scores(at: vec4u) -> mat4x4f {
  var sums = mat4x4f();
  for (var i = 0u; i < DH / 4; i++) {
    let four = mat4x4f(
      of_cache(keys[at.x + i]), of_cache(keys[at.y + i]),
      of_cache(keys[at.z + i]), of_cache(keys[at.w + i]),
    );
    sums[0] += query[i] * four;
    if (TEAM > 1) { sums[1] += query[DH / 4 + i] * four; }
    if (TEAM > 2) { sums[2] += query[DH / 2 + i] * four; }
    if (TEAM > 3) { sums[3] += query[3 * DH / 4 + i] * four; }
  }
  return sums;
}

// Keeps the scores of four positions, `far` from the new token, and returns the largest.
fn keep(at: u32, scores: vec4f, slope: f32, far: vec4f, known: vec4<bool>) -> f32 {
  let s = select(vec4f(LOWEST), scores - slope * far, known);
  weights[at] = s;
  return max(max(s.x, s.y), max(s.z, s.w));
}

// Makes weights of four scores, and returns their total.
fn weigh(at: u32, largest: f32, scales: vec4f) -> f32 {
  let four = exp(weights[at] - largest);
  weights[at] = four * scales;
  return dot(four, vec4f(1));
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

// Adds up what all lanes have of a head, and writes it.
fn finish(head: u32, slice: u32, lane: u32, largest: f32, total: f32, sum: vec4f) {
  let columns = DH / 4;
  workgroupBarrier();
  lane_value[lane] = total;
  lane_sum[lane] = sum;
  workgroupBarrier();
  if (lane >= columns) { return; }
  var all = 0.0;
  for (var i = 0u; i < LANES; i++) { all += lane_value[i]; }
  var whole = sum;
  for (var i = 1u; i < LANES / columns; i++) { whole += lane_sum[i * columns + lane]; }
  if (SLICES == 1) {
    y[head * columns + lane] = vec4<output>(whole / all);
    return;
  }
  let to = (head * SLICES + slice) * (columns + 1);
  y[to + lane] = vec4<output>(whole);
  if (lane == 0) { y[to + columns] = vec4<output>(vec4f(largest, all, 0, 0)); }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let slice = group.x % SLICES;
  let teams = (H / KV_HEADS + TEAM - 1) / TEAM; // of a key-value head
  let team = group.x / SLICES % teams;
  let shared_head = group.x / SLICES / teams;
  let first = shared_head * (H / KV_HEADS) + team * TEAM; // head of the team
  let last = min(first + TEAM, (shared_head + 1) * (H / KV_HEADS)) - 1;
  let length = max(LEAST, ((params.position + SLICES - 1) / SLICES + 3) / 4 * 4);
  let begin = slice * length;
  if (slice > 0 && begin >= params.position) { return; }
  let end = min(begin + length, params.position);

  let columns = DH / 4;
  let parts = LANES / columns;
  let column = lane % columns;
  let part = lane / columns;
  let stride = KV_HEADS * columns; // from one position to the next in the cache
  let offset = shared_head * columns;
  var new_value = vec4f();
  for (var i = lane; i < TEAM * columns; i += LANES) {
    let head = min(first + i / columns, last);
    query[i] = four_turned(head, i % columns * 4, 0) * inverseSqrt(f32(DH));
  }
  if (lane < columns && slice == 0) {
    raw_key[lane] = four_turned(H + shared_head, lane * 4, DH);
    raw_value[lane] = four_values(H + KV_HEADS + shared_head, lane * 4);
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
    if (team == 0) {
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

  let slope = vec4f(
    slopes[first], slopes[min(first + 1, last)], slopes[min(first + 2, last)], slopes[last],
  );
  var largest = vec4f(LOWEST);
  var total = vec4f(); // of the weights this lane made
  var sums = mat4x4f(); // of this lane's column and part
  if (slice == 0) {
    largest = vec4f();
    for (var i = 0u; i < columns; i++) {
      largest.x += dot(query[i], new_key[i]);
      if (TEAM > 1) { largest.y += dot(query[columns + i], new_key[i]); }
      if (TEAM > 2) { largest.z += dot(query[2 * columns + i], new_key[i]); }
      if (TEAM > 3) { largest.w += dot(query[3 * columns + i], new_key[i]); }
    }
    total = vec4f(select(0.0, 1.0, lane == 0));
    sums = mat4x4f(new_value, new_value, new_value, new_value);
  }
  for (var start = begin; start < end; start += TILE) {
    let fours = (min(TILE, end - start) + 3) / 4;
    var mine = vec4f(LOWEST);
    for (var i = lane; i < fours; i += LANES) {
      let p = vec4u(start + i * 4) + vec4u(0, 1, 2, 3);
      let place = min(p, vec4u(end - 1)) * KV_HEADS + shared_head;
      let s = scores(place * columns);
      let scales = key_scales(place);
      let far = vec4f(vec4u(params.position) - p);
      let known = p < vec4u(end);
      mine.x = max(mine.x, keep(i, s[0] * scales, slope.x, far, known));
      if (TEAM > 1) { mine.y = max(mine.y, keep(FOURS + i, s[1] * scales, slope.y, far, known)); }
      if (TEAM > 2) { mine.z = max(mine.z, keep(2 * FOURS + i, s[2] * scales, slope.z, far, known)); }
      if (TEAM > 3) { mine.w = max(mine.w, keep(3 * FOURS + i, s[3] * scales, slope.w, far, known)); }
    }
    lane_value[lane] = mine.x;
    if (TEAM > 1) { lane_value[LANES + lane] = mine.y; }
    if (TEAM > 2) { lane_value[2 * LANES + lane] = mine.z; }
    if (TEAM > 3) { lane_value[3 * LANES + lane] = mine.w; }
    workgroupBarrier();
    let before = largest;
    for (var i = 0u; i < LANES; i++) {
      largest.x = max(largest.x, lane_value[i]);
      if (TEAM > 1) { largest.y = max(largest.y, lane_value[LANES + i]); }
      if (TEAM > 2) { largest.z = max(largest.z, lane_value[2 * LANES + i]); }
      if (TEAM > 3) { largest.w = max(largest.w, lane_value[3 * LANES + i]); }
    }
    let shrink = exp(before - largest);
    total *= shrink;
    sums[0] *= shrink.x;
    if (TEAM > 1) { sums[1] *= shrink.y; }
    if (TEAM > 2) { sums[2] *= shrink.z; }
    if (TEAM > 3) { sums[3] *= shrink.w; }
    for (var i = lane; i < fours; i += LANES) {
      let p = min(vec4u(start + i * 4) + vec4u(0, 1, 2, 3), vec4u(end - 1));
      let scales = value_scales(p * KV_HEADS + shared_head);
      total.x += weigh(i, largest.x, scales);
      if (TEAM > 1) { total.y += weigh(FOURS + i, largest.y, scales); }
      if (TEAM > 2) { total.z += weigh(2 * FOURS + i, largest.z, scales); }
      if (TEAM > 3) { total.w += weigh(3 * FOURS + i, largest.w, scales); }
    }
    workgroupBarrier();
    for (var i = part; i < fours; i += parts) {
      let p = min(vec4u(start + i * 4) + vec4u(0, 1, 2, 3), vec4u(end - 1));
      let at = p * stride + offset + column;
      let four = mat4x4f(
        of_cache(values[at.x]), of_cache(values[at.y]),
        of_cache(values[at.z]), of_cache(values[at.w]),
      );
      sums[0] += four * weights[i];
      if (TEAM > 1) { sums[1] += four * weights[FOURS + i]; }
      if (TEAM > 2) { sums[2] += four * weights[2 * FOURS + i]; }
      if (TEAM > 3) { sums[3] += four * weights[3 * FOURS + i]; }
    }
    workgroupBarrier();
  }

  finish(first, slice, lane, largest.x, total.x, sums[0]);
  if (TEAM > 1 && first + 1 <= last) { finish(first + 1, slice, lane, largest.y, total.y, sums[1]); }
  if (TEAM > 2 && first + 2 <= last) { finish(first + 2, slice, lane, largest.z, total.z, sums[2]); }
  if (TEAM > 3 && first + 3 <= last) { finish(first + 3, slice, lane, largest.w, total.w, sums[3]); }
}
