// Second half of the MoE-Adapter: y[t, B_FROM + n] += sum_j B[n, j] z[t, s(n), j].
//   b: factor4 [B_ROWS, P], the B of all linears of a tensor, one below the other, zeros between them
//   where the tensor has other rows; padded with zeros from E * R to P columns
//   z: f32 [T, LINEARS, P]; y: f32 [T, Y]; s(n) counts how many of MIDDLE and LAST n has reached
// For matmul_q4; matvec_q4 does it by itself. One invocation per four rows; z walks the tokens.

override P: u32; // columns, a multiple of 4
override B_FROM: u32; // the row of y where B begins
override B_ROWS: u32;
override MIDDLE: u32; // rows of B where the second and the third linear begin
override LAST: u32;
override LINEARS: u32;
override Y: u32; // floats from one token to the next in y
override WG: u32 = 64;

@group(0) @binding(0) var<storage, read> b: array<factor4>;
@group(0) @binding(1) var<storage, read> z: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let row = id.x * 4;
  if (row >= B_ROWS) { return; }
  let n = min(vec4u(row, row + 1, row + 2, row + 3), vec4u(B_ROWS - 1));
  let linear = select(vec4u(), vec4u(1), n >= vec4u(MIDDLE)) +
    select(vec4u(), vec4u(1), n >= vec4u(LAST));
  let at = n * (P / 4);
  let source = (id.z * LINEARS + min(linear, vec4u(LINEARS - 1))) * (P / 4);
  var sums = vec4f();
  for (var i = 0u; i < P / 4; i++) {
    sums += vec4f(
      dot(of_factor4(b[at.x + i]), z[source.x + i]),
      dot(of_factor4(b[at.y + i]), z[source.y + i]),
      dot(of_factor4(b[at.z + i]), z[source.z + i]),
      dot(of_factor4(b[at.w + i]), z[source.w + i]),
    );
  }
  for (var i = 0u; i < 4 && row + i < B_ROWS; i++) { y[id.z * Y + B_FROM + row + i] += sums[i]; }
}
