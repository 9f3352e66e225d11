// Rotary position embedding, in place, of the first HEADS heads of every row.
//   x: f32 [T, ROW], queries, keys and values of one token; queries and keys turn
//   angles: [S, DH/2] of (cos, sin), made in f64 on the CPU: WGSL promises sin and cos only 2^-11,
//   and only inside [-pi, pi]
// The pair (i, i + DH/2) of head h turns by angles[position + t][i].
// One invocation per pair; z walks the tokens.

override HEADS: u32; // query heads and key heads together
override DH: u32; // width of one head
override ROW: u32; // floats from one token to the next
override WG: u32 = 64;

struct Params {
  tokens: u32, // T, the tokens in this pass
  position: u32, // where the first of them stands in the sequence
  first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> angles: array<vec2f>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let pairs = DH / 2;
  if (id.x >= HEADS * pairs) { return; }
  let i = id.x % pairs;
  let a = id.z * ROW + id.x / pairs * DH + i;
  let b = a + pairs;
  let turn = angles[(params.position + id.z) * pairs + i];
  let xa = x[a];
  let xb = x[b];
  x[a] = xa * turn.x - xb * turn.y;
  x[b] = xb * turn.x + xa * turn.y;
}
