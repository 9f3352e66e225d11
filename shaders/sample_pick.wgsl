// Chooses the next token from the keys of sample_scores and puts it where the next pass looks.
//   Tokens stand in the order of their scores, equal ones by id. An element is (distance of its
//   key from the highest, id): smaller comes first. Weights are exp((score - highest) /
//   temperature) in units of 2^-24, whole numbers, so that sums do not depend on their order.
//   kept: the first top_k, of these the fewest whose weight reaches top_p of all, of these those
//   of at least min_p; one of them by a random number of seed and position.
//   seen: counts of the last WINDOW tokens of the answer, u32 [V], then these tokens by position
//   modulo WINDOW; list: room for V elements
//   result: token, lowest id with a logit that is no finite number (or NONE), its bits, position
// One workgroup. Where a sum passes a bound is found digit by digit, 8 bits at a time: how many
// elements and how much weight each of 256 bins holds. Sums are pairs (high, low) of 4096.

override V: u32; // at most 2^24
override BLOCKS: u32;
override WG: u32 = 256;

const WINDOW = 256u; // as in the sampler on the CPU
const NONE = 0xffffffffu;
const BINS = 256u;
const LEVELS = 7u; // four digits of the distance, three of the id
const UNIT = 16777216.0; // weight of the likeliest: 2^24

struct Params {
  tokens: u32,
  position: u32, // of the first token of the pass
  first: u32, // the row of the pass whose logits these are
}

struct Settings {
  temperature: f32, // 0 for the highest score
  top_p: f32,
  min_p: f32,
  repetition: f32,
  presence: f32,
  top_k: u32, // 0 is off
  seed: u32,
  start: u32, // position of the answer's first token
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> settings: Settings;
@group(0) @binding(2) var<storage, read> blocks: array<vec4u>;
@group(0) @binding(3) var<storage, read> keys: array<u32>;
@group(0) @binding(4) var<storage, read_write> list: array<vec2u>;
@group(0) @binding(5) var<storage, read_write> seen: array<u32>;
@group(0) @binding(6) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(7) var<storage, read_write> result: array<u32>;

var<workgroup> partial: array<vec4u, WG>;
var<workgroup> best: vec4u; // highest key, its id, lowest wrong id, its bits
var<workgroup> members: array<atomic<u32>, BINS>;
var<workgroup> high: array<atomic<u32>, BINS>;
var<workgroup> low: array<atomic<u32>, BINS>;
var<workgroup> found: vec2u; // the digits so far, zeros after them
var<workgroup> above: vec2u; // what the elements before them sum up to
var<workgroup> done: u32;
var<workgroup> last: vec2u; // the last element that is kept
var<workgroup> listed: atomic<u32>;
var<workgroup> total: array<atomic<u32>, 4>; // two sums: of what is listed, of what is kept
var<workgroup> chosen: u32;

// The generator of src/engine/random.ts: 24 random bits.
fn random_bits(seed: u32, position: u32) -> u32 {
  var x = seed * 1664525u + 1013904223u;
  var y = position * 1664525u + 1013904223u;
  for (var round = 0; round < 2; round++) {
    if (round > 0) {
      x ^= x >> 16;
      y ^= y >> 16;
    }
    x += y * 1664525u;
    y += x * 1664525u;
  }
  x ^= x >> 16;
  return x >> 8;
}

fn better(a: vec4u, b: vec4u) -> vec4u {
  let best = select(b.xy, a.xy, a.x > b.x || (a.x == b.x && a.y < b.y));
  return vec4u(best, select(b.zw, a.zw, a.z < b.z));
}

fn number(key: u32) -> f32 {
  return bitcast<f32>(select(~key, key & 0x7fffffffu, key >= 0x80000000u));
}

fn weight(distance: u32) -> u32 {
  if (distance == 0) { return u32(UNIT); }
  let x = (number(best.x - distance) - number(best.x)) / settings.temperature;
  return u32(exp(max(x, -80.0)) * UNIT + 0.5);
}

fn at_most(a: vec2u, b: vec2u) -> bool {
  return a.x < b.x || (a.x == b.x && a.y <= b.y);
}

// Bits of an element that the first `level` digits cover.
fn covered(level: u32) -> vec2u {
  let x = select(0xffffffffu << (32 - 8 * min(level, 4)), 0u, level == 0);
  let y = select(0xffffffffu << (24 - 8 * (max(level, 4) - 4)), 0u, level <= 4);
  return vec2u(select(x, 0xffffffffu, level >= 4), y);
}

fn digit(e: vec2u, level: u32) -> u32 {
  let word = select(e.y >> (16 - 8 * (max(level, 4) - 4)), e.x >> (24 - 8 * min(level, 3)), level < 4);
  return word % BINS;
}

fn carried(sum: vec2u) -> vec2u {
  return vec2u(sum.x + sum.y / 4096, sum.y % 4096);
}

fn as_number(sum: vec2u) -> f32 {
  return f32(sum.x) * 4096 + f32(sum.y);
}

// A whole number that f32 holds, at most 2^42.
fn as_sum(value: f32) -> vec2u {
  let x = floor(value * (1.0 / 4096.0)); // exact, a division need not be
  return vec2u(u32(x), u32(value - x * 4096));
}

fn less_one(sum: vec2u) -> vec2u {
  return select(vec2u(sum.x, sum.y - 1), vec2u(sum.x - 1, 4095), sum.y == 0);
}

// The bin where the sum passes the bound, or the last one with members. One lane.
fn cross(level: u32, bound: vec2u, by_weight: bool) {
  var sum = above;
  var bin = 0u;
  for (var b = 0u; b < BINS; b++) {
    let count = atomicLoad(&members[b]);
    if (count == 0) { continue; }
    let own = select(vec2u(0, count), vec2u(atomicLoad(&high[b]), atomicLoad(&low[b])), by_weight);
    above = sum;
    bin = b;
    sum = carried(sum + own);
    if (!at_most(sum, bound)) { break; }
  }
  if (level < 4) { found.x |= bin << (24 - 8 * level); }
  else { found.y |= bin << (16 - 8 * (level - 4)); }
  // A bin of one needs no further look, nor one that ends where a count does.
  let ends = !by_weight && all(sum == carried(bound + vec2u(0, 1)));
  done = select(0u, 1u, atomicLoad(&members[bin]) == 1 || ends || level + 1 == LEVELS);
}

fn is_kept(e: vec2u, w: u32) -> bool {
  return at_most(e, last) && f32(w) >= settings.min_p * UNIT;
}

// Finds the first element whose sum from the start passes `bound`: among all by count, among the
// listed and kept by weight. Returns how many digits of `found` tell it from the others.
fn descend(lane: u32, bound: vec2u, by_weight: bool) -> u32 {
  if (lane == 0) {
    found = vec2u();
    above = vec2u();
  }
  let count = select(V, atomicLoad(&listed), by_weight);
  var level = 0u;
  loop {
    for (var b = lane; b < BINS; b += WG) {
      atomicStore(&members[b], 0);
      atomicStore(&high[b], 0);
      atomicStore(&low[b], 0);
    }
    workgroupBarrier();
    let mask = covered(level);
    for (var i = lane; i < count; i += WG) {
      var e: vec2u;
      if (by_weight) { e = list[i]; } else { e = vec2u(best.x - keys[i], i); }
      if (any((e & mask) != found)) { continue; }
      let bin = digit(e, level);
      if (by_weight) {
        let w = weight(e.x);
        if (!is_kept(e, w)) { continue; }
        atomicAdd(&high[bin], w / 4096);
        atomicAdd(&low[bin], w % 4096);
      }
      atomicAdd(&members[bin], 1);
    }
    workgroupBarrier();
    if (lane == 0) { cross(level, bound, by_weight); }
    level++;
    if (workgroupUniformLoad(&done) == 1) { break; }
  }
  return level;
}

// Nothing after the element found is kept.
fn cut(lane: u32, digits: u32) {
  if (lane == 0) { last = found | ~covered(digits); }
  workgroupBarrier();
}

// Lists what is kept and weighs anything, and sums it up.
fn gather(lane: u32) {
  var sum = vec2u();
  for (var i = lane; i < V; i += WG) {
    let e = vec2u(best.x - keys[i], i);
    if (!at_most(e, last)) { continue; }
    let w = weight(e.x);
    if (w == 0) { continue; }
    list[atomicAdd(&listed, 1)] = e;
    sum += vec2u(w / 4096, w % 4096);
  }
  atomicAdd(&total[0], sum.x);
  atomicAdd(&total[1], sum.y);
  storageBarrier();
  workgroupBarrier();
}

// Sums up what is still kept.
fn weigh(lane: u32) {
  var sum = vec2u();
  for (var i = lane; i < atomicLoad(&listed); i += WG) {
    let w = weight(list[i].x);
    if (is_kept(list[i], w)) { sum += vec2u(w / 4096, w % 4096); }
  }
  atomicAdd(&total[2], sum.x);
  atomicAdd(&total[3], sum.y);
  workgroupBarrier();
}

// Draws one of what is kept.
fn draw(lane: u32, position: u32) {
  if (lane == 0) {
    last = vec2u(NONE);
    atomicStore(&listed, 0);
    for (var i = 0; i < 4; i++) { atomicStore(&total[i], 0); }
  }
  workgroupBarrier();
  if (settings.top_k != 0 && settings.top_k < V) {
    cut(lane, descend(lane, carried(vec2u(0, settings.top_k - 1)), false));
  }
  gather(lane);
  if (settings.top_p < 1) {
    let all = carried(vec2u(atomicLoad(&total[0]), atomicLoad(&total[1])));
    let reach = max(ceil(as_number(all) * settings.top_p), 1);
    cut(lane, descend(lane, as_sum(reach - 1), true));
  }
  weigh(lane);
  let kept = carried(vec2u(atomicLoad(&total[2]), atomicLoad(&total[3])));
  let random = f32(random_bits(settings.seed, position)) / UNIT;
  var bound = as_sum(floor(random * as_number(kept)));
  if (at_most(kept, bound)) { bound = less_one(kept); } // rounded up to the whole
  let mask = covered(descend(lane, bound, true));
  for (var i = lane; i < atomicLoad(&listed); i += WG) {
    let e = list[i];
    if (all((e & mask) == found) && is_kept(e, weight(e.x))) { chosen = e.y; }
  }
  workgroupBarrier();
}

// The token where the next pass reads it, and in the window of the penalties.
fn put(token: u32, position: u32) {
  tokens[0] = token;
  let slot = V + position % WINDOW;
  if (position - settings.start >= WINDOW) { seen[seen[slot]] -= 1; }
  seen[slot] = token;
  seen[token] += 1;
}

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lane: u32) {
  var mine = vec4u(0, NONE, NONE, 0);
  for (var i = lane; i < BLOCKS; i += WG) { mine = better(mine, blocks[i]); }
  partial[lane] = mine;
  workgroupBarrier();
  if (lane == 0) {
    for (var i = 1u; i < WG; i++) { mine = better(mine, partial[i]); }
    best = mine;
    chosen = mine.y;
  }
  let top = workgroupUniformLoad(&best);
  let position = params.position + params.first + 1;
  let right = top.z == NONE;
  if (right && settings.temperature > 0 && settings.top_k != 1) { draw(lane, position); }
  if (lane != 0) { return; }
  let token = select(0u, chosen, right);
  put(token, position);
  result[0] = token;
  result[1] = top.z;
  result[2] = top.w;
  result[3] = position;
}
