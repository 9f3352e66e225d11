// How fast a kernel multiplies and adds: LOOPS times 8 vec4 of f32 in registers, 64 operations.
//   y: [INVOCATIONS]

override LOOPS: u32;
override WG: u32 = 64;

@group(0) @binding(0) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let x = vec4f(f32(id.x & 255) * 1e-3);
  var a = x;
  var b = x + 1;
  var c = x + 2;
  var d = x + 3;
  var e = x + 4;
  var f = x + 5;
  var g = x + 6;
  var h = x + 7;
  for (var i = 0u; i < LOOPS; i++) {
    a = fma(a, x, x);
    b = fma(b, x, x);
    c = fma(c, x, x);
    d = fma(d, x, x);
    e = fma(e, x, x);
    f = fma(f, x, x);
    g = fma(g, x, x);
    h = fma(h, x, x);
  }
  let sum = a + b + c + d + e + f + g + h;
  y[id.x] = sum.x + sum.y + sum.z + sum.w;
}
