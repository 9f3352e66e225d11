// Causal attention over the cache:
//   y[t, h] = softmax_s(q[t, h] . k[s, h'] / sqrt(DH) - slopes[h] (position + t - s)) v[s, h'],
// s <= position + t, with h' the key-value head that H/K query heads share. Slopes are those of
// linear biases (ALiBi), zeros where positions are rotary.
//   qkv: f32 [T, ROW], the queries first; keys, values: [S, K, DH], as kv_write makes them; y: [T, H, DH]
// One workgroup per head (x) and four tokens (z), for which keys and values are then read once; the
// last four may be fewer, and the last token is computed again. Positions come in tiles of TILE: the
// lanes make the scores of a tile, four positions at a time, agree on the largest so far, and add the
// weighted values to sums that are rescaled when the largest changes (softmax online), so any length
// fits. A sum belongs to one column of four values and to one of the PARTS that share a tile; they
// are added at the end. What each of the four tokens has of its own stands in x, y, z, w of a
// vector, or in the columns of a matrix.

override H: u32; // query heads
override KV_HEADS: u32;
override DH: u32; // width of one head, a multiple of 4
override ROW: u32; // floats from one token's queries to the next
override SCALES: u32 = 0; // the word where the scales of keys and of values begin; 0 for none
override LANES: u32; // a multiple of DH/4
override TILE: u32 = 256; // a multiple of 4
override FOURS: u32 = TILE / 4; // of one token's weights

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

var<workgroup> query: array<vec4f, DH>; // of four tokens
var<workgroup> weights: array<vec4f, TILE>;
var<workgroup> lane_value: array<vec4f, LANES>;
var<workgroup> lane_sum: array<vec4f, LANES>;

// Of four positions for every token.
fn scores(at: vec4u) -> mat4x4f {
  var sums = mat4x4f();
  for (var i = 0u; i < DH / 4; i++) {
    let four = mat4x4f(
      of_cache(keys[at.x + i]), of_cache(keys[at.y + i]),
      of_cache(keys[at.z + i]), of_cache(keys[at.w + i]),
    );
    sums[0] += query[i] * four;
    sums[1] += query[DH / 4 + i] * four;
    sums[2] += query[DH / 2 + i] * four;
    sums[3] += query[3 * DH / 4 + i] * four;
  }
  return sums;
}

// Keeps the scores of four positions p for a token that sees `length`, and returns the largest.
fn keep(at: u32, scores: vec4f, slope: f32, p: vec4u, length: u32) -> f32 {
  let far = f32(length - 1) - vec4f(p);
  let s = select(vec4f(LOWEST), scores - slope * far, p < vec4u(length));
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

// Adds up what all lanes have of a token, and writes it.
fn finish(to: u32, lane: u32, total: f32, sum: vec4f) {
  let columns = DH / 4;
  workgroupBarrier();
  lane_sum[lane] = sum;
  workgroupBarrier();
  if (lane >= columns) { return; }
  var whole = sum;
  for (var i = 1u; i < LANES / columns; i++) { whole += lane_sum[i * columns + lane]; }
  y[to * columns + lane] = vec4<elem>(whole / total);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let columns = DH / 4;
  let parts = LANES / columns;
  let column = lane % columns;
  let part = lane / columns;
  let shared_head = group.x / (H / KV_HEADS);
  let first = group.z * 4; // of the tokens
  let last = params.tokens - 1;
  let lengths = params.position + 1 + min(vec4u(first) + vec4u(0, 1, 2, 3), vec4u(last));
  let end = lengths.w; // the positions that the last of them sees
  let slope = slopes[group.x];
  for (var i = lane; i < DH; i += LANES) {
    let token = min(first + i / columns, last);
    query[i] = qkv[token * (ROW / 4) + group.x * columns + i % columns] * inverseSqrt(f32(DH));
  }
  workgroupBarrier();

  var largest = vec4f(LOWEST);
  var total = vec4f(); // of the weights this lane made
  var sums = mat4x4f(); // of this lane's column and part
  for (var start = 0u; start < end; start += TILE) {
    let fours = (min(TILE, end - start) + 3) / 4;
    var mine = vec4f(LOWEST);
    for (var i = lane; i < fours; i += LANES) {
      let p = vec4u(start + i * 4) + vec4u(0, 1, 2, 3);
      let place = min(p, vec4u(end - 1)) * KV_HEADS + shared_head;
      let s = scores(place * columns);
      let scales = key_scales(place);
      mine = max(mine, vec4f(
        keep(i, s[0] * scales, slope, p, lengths.x),
        keep(FOURS + i, s[1] * scales, slope, p, lengths.y),
        keep(2 * FOURS + i, s[2] * scales, slope, p, lengths.z),
        keep(3 * FOURS + i, s[3] * scales, slope, p, lengths.w),
      ));
    }
    lane_value[lane] = mine;
    workgroupBarrier();
    let before = largest;
    for (var i = 0u; i < LANES; i++) { largest = max(largest, lane_value[i]); }
    let shrink = exp(before - largest);
    total *= shrink;
    sums[0] *= shrink.x;
    sums[1] *= shrink.y;
    sums[2] *= shrink.z;
    sums[3] *= shrink.w;
    for (var i = lane; i < fours; i += LANES) {
      let p = min(vec4u(start + i * 4) + vec4u(0, 1, 2, 3), vec4u(end - 1));
      let scales = value_scales(p * KV_HEADS + shared_head);
      total += vec4f(
        weigh(i, largest.x, scales),
        weigh(FOURS + i, largest.y, scales),
        weigh(2 * FOURS + i, largest.z, scales),
        weigh(3 * FOURS + i, largest.w, scales),
      );
    }
    workgroupBarrier();
    for (var i = part; i < fours; i += parts) {
      let p = min(vec4u(start + i * 4) + vec4u(0, 1, 2, 3), vec4u(end - 1));
      let at = (p * KV_HEADS + shared_head) * columns + column;
      let four = mat4x4f(
        of_cache(values[at.x]), of_cache(values[at.y]),
        of_cache(values[at.z]), of_cache(values[at.w]),
      );
      sums[0] += four * weights[i];
      sums[1] += four * weights[FOURS + i];
      sums[2] += four * weights[2 * FOURS + i];
      sums[3] += four * weights[3 * FOURS + i];
    }
    workgroupBarrier();
  }

  lane_value[lane] = total;
  workgroupBarrier();
  total = vec4f();
  for (var i = 0u; i < LANES; i++) { total += lane_value[i]; }
  let to = first * H + group.x;
  finish(to, lane, total.x, sums[0]);
  if (first + 1 <= last) { finish(to + H, lane, total.y, sums[1]); }
  if (first + 2 <= last) { finish(to + 2 * H, lane, total.z, sums[2]); }
  if (first + 3 <= last) { finish(to + 3 * H, lane, total.w, sums[3]); }
}
