// Adds up what attention_decode made of the slices of the cache:
//   y[h] = sum_i e[i] sum[h, i] / sum_i e[i] total[h, i], e[i] = exp(largest[h, i] - their largest)
//   slices: f32 [H, SLICES, DH + 4], a row is sum, largest, total and two unused; y: [H, DH]
// One invocation per four values of y.

override H: u32; // query heads
override DH: u32; // width of one head, a multiple of 4
override SLICES: u32;
override LEAST: u32 = 64; // as in attention_decode: they tell which slices there are
override WG: u32 = 64;

struct Params {
  tokens: u32,
  position: u32, // where the token stands in the sequence
  first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> slices: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<elem>>;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let columns = DH / 4;
  if (id.x >= H * columns) { return; }
  let length = max(LEAST, ((params.position + SLICES - 1) / SLICES + 3) / 4 * 4);
  let count = max(1, (params.position + length - 1) / length);
  let from_head = id.x / columns * SLICES * (columns + 1);
  let column = id.x % columns;
  var largest = slices[from_head + columns].x;
  for (var i = 1u; i < count; i++) {
    largest = max(largest, slices[from_head + i * (columns + 1) + columns].x);
  }
  var sum = vec4f();
  var total = 0.0;
  for (var i = 0u; i < count; i++) {
    let row = from_head + i * (columns + 1);
    let share = exp(slices[row + columns].x - largest);
    sum += share * slices[row + column];
    total += share * slices[row + columns].y;
  }
  y[id.x] = vec4<elem>(sum / total);
}
