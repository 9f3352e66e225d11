// What every token of the vocabulary scores after the penalties, as words that sort like numbers.
//   logits: f32 [V]; seen: how often each token is among the answer's last ones, u32 [V]
//   score = (logit > 0 ? logit / repetition : logit * repetition) - presence, of seen tokens
//   keys: u32 [V], larger for a higher score; blocks: of each workgroup's V / BLOCKS tokens
//   (highest key, lowest id that has it, lowest id whose logit is no finite number, its bits)
// A workgroup takes WG * EACH tokens, an invocation EACH of them, WG apart.

override V: u32;
override EACH: u32;
override WG: u32 = 64;

const NONE = 0xffffffffu; // no such id

struct Settings {
  temperature: f32, // 0 for the highest score
  top_p: f32,
  min_p: f32,
  repetition: f32, // 1 is off
  presence: f32, // 0 is off
  top_k: u32, // 0 is off
  seed: u32,
  start: u32, // position of the answer's first token
}

@group(0) @binding(0) var<storage, read> settings: Settings;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> seen: array<u32>;
@group(0) @binding(3) var<storage, read_write> keys: array<u32>;
@group(0) @binding(4) var<storage, read_write> blocks: array<vec4u>;

var<workgroup> partial: array<vec4u, WG>;

fn score(id: u32, logit: f32) -> f32 {
  let off = settings.repetition == 1 && settings.presence == 0;
  if (off || seen[id] == 0) { return logit; }
  let repeated = select(logit * settings.repetition, logit / settings.repetition, logit > 0);
  return repeated - settings.presence;
}

// Words in the order of the numbers; both zeros are equal.
fn sortable(value: f32) -> u32 {
  let bits = select(bitcast<u32>(value), 0u, value == 0);
  return select(~bits, bits | 0x80000000u, bits < 0x80000000u);
}

// The better of two blocks' results: the lower id where keys are equal.
fn better(a: vec4u, b: vec4u) -> vec4u {
  let best = select(b.xy, a.xy, a.x > b.x || (a.x == b.x && a.y < b.y));
  return vec4u(best, select(b.zw, a.zw, a.z < b.z));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  var best = vec4u(0, NONE, NONE, 0);
  for (var i = 0u; i < EACH; i++) {
    let id = (group.x * EACH + i) * WG + lane;
    if (id >= V) { break; }
    let logit = logits[id];
    let bits = bitcast<u32>(logit);
    let key = sortable(score(id, logit));
    keys[id] = key;
    // By its bits: a shader may take NaN for any number.
    let wrong = (bits & 0x7f800000u) == 0x7f800000u;
    best = better(best, vec4u(key, id, select(NONE, id, wrong), bits));
  }
  partial[lane] = best;
  workgroupBarrier();
  if (lane != 0) { return; }
  for (var i = 1u; i < WG; i++) { best = better(best, partial[i]); }
  blocks[group.x] = best;
}
