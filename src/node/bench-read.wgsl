// How fast a kernel reads: every invocation adds up its part of x.
//   x: [N, 4]   sums: [INVOCATIONS]
// NEIGHBOURS 1: invocations read side by side, as GPUs like it; 0: each its own stretch, as CPUs do.

override N: u32; // vec4s
override INVOCATIONS: u32;
override NEIGHBOURS: u32;
override WG: u32 = 64;

@group(0) @binding(0) var<storage, read> x: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> sums: array<u32>;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let each = N / INVOCATIONS;
  let first = select(id.x * each, id.x, NEIGHBOURS == 1);
  let step = select(1u, INVOCATIONS, NEIGHBOURS == 1);
  var sum = vec4u();
  for (var i = 0u; i < each; i++) { sum += x[first + i * step]; }
  sums[id.x] = sum.x ^ sum.y ^ sum.z ^ sum.w;
}
