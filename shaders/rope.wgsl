// What becomes of the query and key heads of every row before attention, in place: the bias of
// their projection, the norm of each head where the model has one (QK-norm), the rotation by their
// position.
//   x: f32 [T, ROW], queries, keys and values of one token; queries and keys turn
//   bias: [ROW], zeros where the model has none; weight: [2 DH], norm of queries, norm of keys
//   angles: [S, DH/2] of (cos, sin), made in f64 on the CPU: WGSL promises sin and cos only 2^-11,
//   and only inside [-pi, pi]
// v = x + bias; with NORM v = v / sqrt(mean(v^2) + EPS) * weight; then the pair (i, i + DH/2) of v
// turns by angles[position + t][i].
// One workgroup per head (x) and token (z); a lane takes whole pairs, in both of its loops the same.

override H: u32; // query heads; the key heads follow
override DH: u32; // width of one head
override ROW: u32; // floats from one token to the next
override NORM: bool = false;
override EPS: f32 = 0;
override WG: u32 = 64;

struct Params {
  tokens: u32, // T, the tokens in this pass
  position: u32, // where the first of them stands in the sequence
  first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> angles: array<vec2f>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read_write> x: array<f32>;

var<workgroup> partial: array<f32, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let pairs = DH / 2;
  let head = group.x * DH;
  let row = group.z * ROW;
  var factor = 1.0;
  if (NORM) {
    var squares = 0.0;
    for (var i = lane; i < pairs; i += WG) {
      let a = head + i;
      let v = vec2f(x[row + a] + bias[a], x[row + a + pairs] + bias[a + pairs]);
      squares += dot(v, v);
    }
    partial[lane] = squares;
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < WG; i++) { total += partial[i]; }
    factor = inverseSqrt(total / f32(DH) + EPS);
  }
  let side = select(0, DH, group.x >= H); // where the weights of this head begin
  for (var i = lane; i < pairs; i += WG) {
    let a = head + i;
    var v = vec2f(x[row + a] + bias[a], x[row + a + pairs] + bias[a + pairs]);
    if (NORM) { v *= factor * vec2f(weight[side + i], weight[side + i + pairs]); }
    let turn = angles[(params.position + group.z) * pairs + i];
    x[row + a] = v.x * turn.x - v.y * turn.y;
    x[row + a + pairs] = v.y * turn.x + v.x * turn.y;
  }
}
