import { Failure } from '../failure.ts';
import type { AdaptedLinear, AdapterInfo, Manifest, ModelConfig, TensorInfo } from './manifest.ts';
import { classOf } from './recipe.ts';

/** What the parts of a manifest say about each other: model, adapter, tasks, known answers. */

type Tensors = ReadonlyMap<string, TensorInfo>;
type ExpectedTensor = Pick<TensorInfo, 'name' | 'dtype' | 'shape'>;

/** Every tensor of the base model, in the order of the forward pass. */
export function baseTensors(config: ModelConfig): readonly ExpectedTensor[] {
  const { vocab, width, heads, kvHeads, headDim, mlpWidth } = config;
  const qkvRows = (heads + 2 * kvHeads) * headDim;
  const where = (has: boolean | undefined, tensor: ExpectedTensor) => (has ? [tensor] : []);
  const layer = (i: number): ExpectedTensor[] => [
    { name: `layers.${i}.attention_norm`, dtype: 'f32', shape: [width] },
    { name: `layers.${i}.qkv`, dtype: 'q4', shape: [qkvRows, width] },
    ...where(config.qkvBias, { name: `layers.${i}.qkv_bias`, dtype: 'f32', shape: [qkvRows] }),
    ...where(config.qkNorm, { name: `layers.${i}.qk_norm`, dtype: 'f32', shape: [2 * headDim] }),
    { name: `layers.${i}.attention_out`, dtype: 'q4', shape: [width, heads * headDim] },
    { name: `layers.${i}.mlp_norm`, dtype: 'f32', shape: [width] },
    { name: `layers.${i}.gate_up`, dtype: 'q4', shape: [2 * mlpWidth, width] },
    { name: `layers.${i}.down`, dtype: 'q4', shape: [width, mlpWidth] },
  ];
  return [
    { name: 'embed', dtype: 'q8', shape: [vocab, width] },
    ...Array.from({ length: config.layers }, (_, i) => layer(i)).flat(),
    { name: 'norm', dtype: 'f32', shape: [width] },
    ...where(!config.tiedHead, { name: 'head', dtype: 'q8', shape: [vocab, width] }),
  ];
}

/** @throws Failure BadManifest */
export function checkMeaning(manifest: Manifest, tensors: Tensors): void {
  checkConfig(manifest.config);
  checkTasks(manifest);
  const { layers } = manifest.config;
  // Before a list is made from a number that came from outside.
  if (layers > manifest.tensors.length) throw bad(`config: no tensors for ${layers} layers`);
  const base = baseTensors(manifest.config);
  for (const expected of base) checkTensorIs(expected, tensors);
  checkRecipe(manifest, base);
  const used = new Set(base.map(({ name }) => name));
  const baseFiles = new Set(base.flatMap(({ name }) => filesOf(name, tensors)));
  if (manifest.adapter !== null) {
    checkAdapter(manifest.adapter, tensors, used, baseFiles);
    checkGates(manifest.adapter, manifest);
  }
  for (const name of tensors.keys()) {
    if (!used.has(name)) throw bad(`tensor ${name} has no place in this model`);
  }
  const filled = new Set(manifest.tensors.flatMap(({ blocks }) => blocks.map(({ file }) => file)));
  for (const { name } of manifest.files) {
    if (name !== 'tokenizer.json' && !filled.has(name)) throw bad(`file ${name} holds nothing`);
  }
  checkKnownAnswer(manifest);
}

function checkConfig(config: ModelConfig): void {
  const { heads, kvHeads, headDim, normEps, positions } = config;
  if (heads % kvHeads !== 0) throw bad(`config: ${heads} heads share ${kvHeads} unevenly`);
  if (normEps <= 0) throw bad(`config: normEps ${normEps} is not above 0`);
  if (positions.kind === 'alibi') {
    // The step that turns queries and keys adds their bias and norms them.
    if (config.qkvBias) throw bad('config: qkvBias goes with rotary positions');
    if (config.qkNorm) throw bad('config: qkNorm goes with rotary positions');
    return;
  }
  if (headDim % 2 !== 0) throw bad(`config: headDim ${headDim} is odd, RoPE turns pairs`);
  if (positions.theta <= 0) throw bad(`config: theta ${positions.theta} is not above 0`);
}

function checkTensorIs({ name, dtype, shape }: ExpectedTensor, tensors: Tensors): void {
  const tensor = tensors.get(name);
  if (tensor === undefined) throw bad(`tensor ${name} is missing`);
  const wanted = `${dtype} [${shape.join(', ')}]`;
  const found = `${tensor.dtype} [${tensor.shape.join(', ')}]`;
  if (wanted !== found) throw bad(`tensor ${name} is ${found}, not ${wanted}`);
}

/** What the weights are said to be rounded by is how they are stored, and convert rounded them. */
function checkRecipe(
  { provenance: { recipe }, quantization }: Manifest,
  base: readonly ExpectedTensor[],
): void {
  if (recipe === undefined) return;
  if (quantization.origin !== 'convert') {
    throw bad(`provenance: a recipe, though the integers are of ${quantization.origin}`);
  }
  for (const { name, dtype } of base) {
    const said = recipe.classes[classOf(name)].dtype;
    if (said !== dtype)
      throw bad(`provenance: recipe: ${classOf(name)} is ${said}, ${name} ${dtype}`);
  }
}

function checkAdapter(
  adapter: AdapterInfo,
  tensors: Tensors,
  used: Set<string>,
  baseFiles: ReadonlySet<string>,
): void {
  const seen = new Map<string, AdaptedLinear>();
  if (adapter.linears.length === 0) throw bad('adapter: no linears');
  for (const linear of adapter.linears) {
    if (seen.has(linear.linear)) throw bad(`adapter: ${linear.linear} stands twice`);
    checkTarget(linear, adapter.targets);
    checkRows(linear, tensors, seen);
    seen.set(linear.linear, linear);
    for (const expected of adapterTensors(linear, adapter, tensors)) {
      if (used.has(expected.name)) throw bad(`adapter: tensor ${expected.name} is used twice`);
      checkTensorIs(expected, tensors);
      used.add(expected.name);
      const shared = filesOf(expected.name, tensors).find((file) => baseFiles.has(file));
      if (shared !== undefined)
        throw bad(`adapter: ${expected.name} shares ${shared} with the base`);
    }
  }
  const suffixes = new Set(adapter.linears.map(({ linear }) => linear.split('.').at(-1)));
  const unused = adapter.targets.find((target) => !suffixes.has(target));
  if (unused !== undefined) throw bad(`adapter: no linear for target ${unused}`);
}

function checkTarget({ linear }: AdaptedLinear, targets: readonly string[]): void {
  const suffix = linear.split('.').at(-1) ?? '';
  if (!targets.includes(suffix)) throw bad(`adapter: ${linear} is not among the targets`);
}

function checkRows(
  { linear, tensor, rows }: AdaptedLinear,
  tensors: Tensors,
  seen: ReadonlyMap<string, AdaptedLinear>,
): void {
  const [from, to] = rows;
  const host = tensors.get(tensor);
  if (host?.dtype !== 'q4') throw bad(`adapter: ${linear} lives in ${tensor}, not a q4 tensor`);
  if (to <= from || to > (host.shape[0] ?? 0)) {
    throw bad(`adapter: ${linear} has rows ${from} to ${to} of ${tensor}`);
  }
  for (const other of seen.values()) {
    if (other.tensor === tensor && other.rows[0] < to && from < other.rows[1]) {
      throw bad(`adapter: ${linear} and ${other.linear} share rows of ${tensor}`);
    }
  }
}

function adapterTensors(
  { linear, tensor, rows, a, b, router }: AdaptedLinear,
  { mode, experts, rank }: AdapterInfo,
  tensors: Tensors,
): ExpectedTensor[] {
  if ((router !== null) !== (mode === 'routed')) {
    throw bad(
      `adapter: ${linear} ${router === null ? 'lacks its' : 'has a'} router in mode ${mode}`,
    );
  }
  const columns = tensors.get(tensor)?.shape[1] ?? 0;
  const expected: ExpectedTensor[] = [
    { name: a, dtype: 'f16', shape: [experts * rank, columns] },
    { name: b, dtype: 'f16', shape: [rows[1] - rows[0], experts * rank] },
  ];
  if (router !== null) expected.push({ name: router, dtype: 'f16', shape: [experts - 1, columns] });
  return expected;
}

function checkGates(adapter: AdapterInfo, { tasks }: Manifest): void {
  const { mode, router, experts, linears, gates } = adapter;
  if (mode === 'routed' && router === 'absent') throw bad('adapter: routed without a router');
  const known = new Set(tasks.map(({ id }) => id));
  for (const [task, rows] of Object.entries(gates)) {
    if (!known.has(task)) throw bad(`adapter: gates of an unknown task ${task}`);
    if (rows.length !== linears.length) {
      throw bad(`adapter: ${rows.length} rows of gates for ${linears.length} linears in ${task}`);
    }
    for (const row of rows) {
      if (row.length !== experts - 1) {
        throw bad(`adapter: ${row.length} gates for ${experts - 1} specific experts in ${task}`);
      }
      const uniform = row.every((gate) => Math.abs(gate - 1 / (experts - 1)) < 1e-6);
      if (router === 'absent' && !uniform) {
        throw bad(`adapter: the router is absent, but ${task} has gates that are not uniform`);
      }
    }
  }
  const without = tasks.find(({ id }) => !Object.hasOwn(gates, id));
  if (mode === 'merged' && without !== undefined) throw bad(`adapter: no gates for ${without.id}`);
}

function checkTasks({ tasks, template, sampling, config }: Manifest): void {
  if (new Set(tasks.map(({ id }) => id)).size !== tasks.length) throw bad('a task stands twice');
  for (const token of [template.endId, ...template.stopIds]) {
    if (token >= config.vocab) throw bad(`template: token ${token} is not in the vocabulary`);
  }
  if (sampling.temperature < 0) throw bad('sampling: temperature below 0');
  if (sampling.topP <= 0 || sampling.topP > 1) throw bad('sampling: topP outside (0, 1]');
  if (sampling.repetitionPenalty <= 0) throw bad('sampling: repetitionPenalty is not above 0');
}

function checkKnownAnswer({ knownAnswer, tasks, config }: Manifest): void {
  if (knownAnswer === null) return;
  const { tolerance } = knownAnswer;
  if (tolerance.f32 <= 0 || tolerance.f16 <= 0)
    throw bad('knownAnswer: a tolerance is not above 0');
  const known = new Set(tasks.map(({ id }) => id));
  for (const [task, { tokens, top, greedy }] of Object.entries(knownAnswer.tasks)) {
    if (!known.has(task)) throw bad(`knownAnswer: unknown task ${task}`);
    if (top.length !== tokens.length) {
      throw bad(`knownAnswer: ${top.length} rows for ${tokens.length} tokens in ${task}`);
    }
    const ids = [...tokens, ...greedy, ...top.flat().map(({ id }) => id)];
    const outside = ids.find((id) => id >= config.vocab);
    if (outside !== undefined) throw bad(`knownAnswer: token ${outside} is not in the vocabulary`);
    for (const row of top) {
      if (row.some(({ logit }, i) => logit > (row[i - 1]?.logit ?? Infinity))) {
        throw bad(`knownAnswer: logits of ${task} are not in order`);
      }
    }
  }
}

function filesOf(name: string, tensors: Tensors): string[] {
  return tensors.get(name)?.blocks.map(({ file }) => file) ?? [];
}

function bad(what: string): Failure {
  return new Failure('BadManifest', what);
}
