// Matrix times matrix with 4-bit weights: y[t, FROM + n] (+)= sum_k W[n, k] x[t, k], for many t.
//   w: one row block of W, as in matvec_q4; x: [T, K]; y: f32 [T, Y]
// A workgroup makes a tile of 64 rows by 32 tokens (z walks the token tiles). For one group of 32
// columns at a time, the first 64 invocations unpack one row each and the other 64 fetch x, both
// into workgroup memory (13.5 KiB); then every invocation adds to its 4 rows by 4 tokens.

override K: u32; // columns
override N: u32; // rows of this block
override FROM: u32 = 0; // the first of them in W
override Y: u32; // rows of W
override ADD: bool = false; // add to y instead of writing it

const FOLD = 32768u; // workgroups beyond this many go to the next y
const ROWS = 64u; // of a tile
const TOKENS = 32u;
const STRIDE = 9u; // vec4s of a row in workgroup memory: 8 and one more against bank conflicts

struct Params {
  tokens: u32, // T, the tokens in this pass
  position: u32, // where the first of them stands in the sequence
  first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> w: array<vec4u>;
@group(0) @binding(2) var<storage, read> x: array<vec4<elem>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

var<workgroup> w_tile: array<vec4f, ROWS * STRIDE>;
var<workgroup> x_tile: array<vec4f, TOKENS * STRIDE>;

fn load_weights(to: u32, row: u32, g: u32) {
  let group = min(row, N - 1) * (K / 32) + g;
  let word = w[N * (K / 32) + group / 8][group / 2 % 4];
  let scale = unpack2x16float(word >> (group % 2 * 16)).x;
  let q = w[group];
  for (var i = 0u; i < 4; i++) {
    let low = (vec4u(q[i]) >> vec4u(0, 4, 8, 12)) & vec4u(15);
    let high = (vec4u(q[i]) >> vec4u(16, 20, 24, 28)) & vec4u(15);
    w_tile[to * STRIDE + i * 2] = (vec4f(low) - 8) * scale;
    w_tile[to * STRIDE + i * 2 + 1] = (vec4f(high) - 8) * scale;
  }
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first_row = (group.y * FOLD + group.x) * ROWS;
  let first_token = group.z * TOKENS;
  // Rows row, row + 16, ... and tokens token, token + 8, ...: neighbours read neighbouring banks.
  let row = lane % 16;
  let token = lane / 16;
  var sums = mat4x4f(); // a column for each token, in it a value for each row
  for (var g = 0u; g < K / 32; g++) {
    if (lane < ROWS) {
      load_weights(lane, first_row + lane, g);
    } else {
      for (var i = lane - ROWS; i < TOKENS * 8; i += 64) {
        let t = min(first_token + i / 8, params.tokens - 1);
        x_tile[i / 8 * STRIDE + i % 8] = vec4f(x[t * (K / 4) + g * 8 + i % 8]);
      }
    }
    workgroupBarrier();
    for (var k = 0u; k < 8; k++) {
      let at = row * STRIDE + k;
      let weights = mat4x4f(
        w_tile[at],
        w_tile[at + 16 * STRIDE],
        w_tile[at + 32 * STRIDE],
        w_tile[at + 48 * STRIDE],
      );
      let source = token * STRIDE + k;
      sums += mat4x4f(
        x_tile[source] * weights,
        x_tile[source + 8 * STRIDE] * weights,
        x_tile[source + 16 * STRIDE] * weights,
        x_tile[source + 24 * STRIDE] * weights,
      );
    }
    workgroupBarrier();
  }
  for (var j = 0u; j < 4; j++) {
    for (var i = 0u; i < 4; i++) {
      let t = first_token + token + j * 8;
      let n = first_row + row + i * 16;
      if (t >= params.tokens || n >= N) { continue; }
      let out = t * Y + FROM + n;
      if (ADD) { y[out] += sums[j][i]; } else { y[out] = sums[j][i]; }
    }
  }
}
