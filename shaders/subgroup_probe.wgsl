// What subgroups are on this GPU, as a sum over neighbouring lanes meets them.
//   x: f32 [WG]; y: of each lane (invocations of its subgroup, its number among them, sum of x over
//   the lanes whose numbers differ in no bit beyond the subgroup's size, as bits), u32 [WG, 4]
// One workgroup of WG invocations, the size that matvec_q4 runs with.

override WG: u32 = 64;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4u>;

@compute @workgroup_size(WG)
fn main(
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_size) size: u32,
  @builtin(subgroup_invocation_id) number: u32,
) {
  var sum = vec4f(x[lane]);
  for (var step = 1u; step < min(size, WG); step *= 2) { sum += shuffled(sum, step); }
  y[lane] = vec4u(size, number, bitcast<u32>(sum.x), 0);
}
