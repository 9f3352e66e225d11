// The gate of the MLP: y = silu(gate) * up, silu(g) = g / (1 + exp(-g)).
//   gate_up: f32 [T, 2 F], the gate first; y: [T, F]
// One invocation per four values; z walks the tokens.

override F: u32; // inner width of the MLP
override WG: u32 = 64;

@group(0) @binding(0) var<storage, read> gate_up: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<elem>>;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let width = F / 4;
  if (id.x >= width) { return; }
  let gate = gate_up[id.z * 2 * width + id.x];
  let up = gate_up[id.z * 2 * width + width + id.x];
  // exp of more than 88 is beyond f32, and WGSL leaves open what comes then.
  let silu = gate / (1 + exp(min(-gate, vec4f(80))));
  y[id.z * width + id.x] = vec4<elem>(silu * up);
}
