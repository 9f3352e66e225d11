// Second half of the MoE-Adapter: y[t, FROM + n] += sum_j B[n, j] z[t, SEGMENT + n / ROWS, j].
//   b: [N, P], the B of neighbouring linears of ROWS rows each stacked, padded with zeros from
//   E * R to P columns; z: f32 [T, S, P]; y: f32 [T, Y]
// One invocation per four rows; z walks the tokens.

override P: u32; // columns, a multiple of 4
override N: u32; // rows
override ROWS: u32; // rows of one linear; a multiple of 4 where there are several
override LINEARS: u32; // S
override SEGMENT: u32; // the first of these linears in z
override FROM: u32; // the first of these rows in y
override Y: u32; // floats from one token to the next in y
override WG: u32 = 64;

@group(0) @binding(0) var<storage, read> b: array<vec4<elem>>;
@group(0) @binding(1) var<storage, read> z: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let row = id.x * 4;
  if (row >= N) { return; }
  let rows = min(vec4u(row, row + 1, row + 2, row + 3), vec4u(N - 1)) * (P / 4);
  let source = (id.z * LINEARS + SEGMENT + row / ROWS) * (P / 4);
  var sums = vec4f();
  for (var i = 0u; i < P / 4; i++) {
    let four = mat4x4f(
      vec4f(b[rows.x + i]), vec4f(b[rows.y + i]), vec4f(b[rows.z + i]), vec4f(b[rows.w + i]),
    );
    sums += z[source + i] * four;
  }
  for (var i = 0u; i < 4 && row + i < N; i++) { y[id.z * Y + FROM + row + i] += sums[i]; }
}
