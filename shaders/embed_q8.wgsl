// Rows of the embedding table, dequantised: x[t] = (q[tokens[t]] - 128) * scale.
//   table: one row block of the table, rows FROM to FROM + N of [V, K]: the q plane, u8 [N, K],
//   then the scale plane, f16 [N, K/32]
// Tokens of other blocks are left alone. One invocation per four values; z walks the tokens.

override K: u32; // width
override N: u32; // rows of this block
override FROM: u32; // the token of its first row
override WG: u32 = 64;

@group(0) @binding(0) var<storage, read> tokens: array<u32>; // [T]
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read_write> x: array<vec4f>; // [T, K/4]

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let i = id.x;
  let row = tokens[id.z] - FROM; // wraps to a large number below the block
  if (i >= K / 4 || row >= N) { return; }
  let q = (vec4u(table[row * (K / 4) + i]) >> vec4u(0, 8, 16, 24)) & vec4u(255);
  let group = row * (K / 32) + i / 8;
  let scale = unpack2x16float(table[N * (K / 4) + group / 2] >> (group % 2 * 16)).x;
  x[id.z * (K / 4) + i] = (vec4f(q) - 128) * scale;
}
