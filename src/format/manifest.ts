import * as v from 'valibot';
import { Failure } from '../failure.ts';
import { GROUP_SIZE, recipeClasses } from './recipe.ts';

/**
 * The manifest of a model package, format version 1. `convert/README.md` is the page about it.
 * This schema says what each field is; `layout.ts` checks what fields say about each other.
 */

export const FORMAT_VERSION = 1;
/** Nothing larger is parsed. */
export const MAX_MANIFEST_BYTES = 1 << 20;
/** No shard is larger. */
export const MAX_SHARD_BYTES = 16 << 20;
/** Every tensor block starts at a multiple of this: WebGPU's storage offset alignment. */
export const TENSOR_ALIGNMENT = 256;
export { GROUP_SIZE };

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const positive = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const finite = v.pipe(v.number(), v.finite());
const text = v.pipe(v.string(), v.maxLength(4096));
const id = v.pipe(v.string(), v.regex(/^[a-z0-9][a-z0-9._-]{0,63}$/));
const fileName = v.pipe(v.string(), v.regex(/^[a-z0-9][a-z0-9._-]{0,63}$/));
const tensorName = v.pipe(v.string(), v.regex(/^[A-Za-z0-9_.]{1,128}$/));
const sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));
const bilingual = v.strictObject({ zh: text, en: text });
const tokens = v.pipe(v.array(count), v.maxLength(1024));

const config = v.strictObject({
  architecture: v.picklist(['baichuan2', 'llama', 'qwen2', 'qwen3']),
  vocab: positive,
  width: positive,
  layers: positive,
  heads: positive,
  kvHeads: positive,
  headDim: positive,
  mlpWidth: positive,
  normEps: finite,
  positions: v.variant('kind', [
    v.strictObject({ kind: v.literal('rope'), theta: finite }),
    v.strictObject({ kind: v.literal('alibi') }),
  ]),
  capacity: positive,
  // What some architectures have; left out, this one does not.
  qkvBias: v.optional(v.boolean()), // a vector is added to queries, keys and values
  qkNorm: v.optional(v.boolean()), // each head's queries and keys are normed before they turn
  tiedHead: v.optional(v.boolean()), // the head is the embedding table
});

const block = v.strictObject({
  file: fileName,
  offset: count, // bytes from the start of the file, a multiple of TENSOR_ALIGNMENT
  bytes: positive, // q plane, scale plane and padding together
  rows: v.tuple([count, positive]), // [from, to) of the tensor's first axis
});

const tensor = v.strictObject({
  name: tensorName,
  dtype: v.picklist(['f32', 'f16', 'q4', 'q8']),
  shape: v.pipe(v.array(positive), v.minLength(1), v.maxLength(2)),
  blocks: v.pipe(v.array(block), v.minLength(1)),
});

const file = v.strictObject({ name: fileName, bytes: positive, sha256 });

const adaptedLinear = v.strictObject({
  linear: tensorName, // the original linear: 'layers.0.mlp.gate_proj'
  tensor: tensorName, // the tensor it lives in: 'layers.0.gate_up'
  rows: v.tuple([count, positive]), // its rows there
  a: tensorName, // [E*r, K]
  b: tensorName, // [N, E*r]
  router: v.nullable(tensorName), // [E-1, K], routed packages only
});

const adapter = v.strictObject({
  mode: v.picklist(['merged', 'routed']),
  router: v.picklist(['trained', 'absent']), // absent: gates are uniform, 1/(E-1)
  experts: v.pipe(positive, v.minValue(2)), // E, the universal expert (index 0) included
  rank: positive,
  alpha: finite,
  targets: v.array(tensorName),
  linears: v.array(adaptedLinear),
  /** Per task, one row of E-1 gates for each entry of `linears`. */
  gates: v.record(id, v.array(v.array(finite))),
});

const piece = v.strictObject({ prefix: text, suffix: text });

const template = v.strictObject({
  system: piece,
  user: piece,
  assistant: piece,
  separator: text, // before every user turn but the first
  endId: count, // closes an assistant turn in the prompt
  stopIds: v.pipe(v.array(count), v.minLength(1)),
});

const task = v.strictObject({ id, title: bilingual, system: text });

const sampling = v.strictObject({
  temperature: finite,
  topK: count,
  topP: finite,
  repetitionPenalty: finite,
  maxTokens: positive,
});

const knownAnswer = v.strictObject({
  /** Largest difference of a logit that a backend may show, by the type it computes in. */
  tolerance: v.strictObject({ f32: finite, f16: finite }),
  tasks: v.record(
    id,
    v.strictObject({
      tokens: v.pipe(tokens, v.minLength(1), v.maxLength(16)),
      /** At every position of `tokens`, the five highest logits, highest first. */
      top: v.array(v.pipe(v.array(v.strictObject({ id: count, logit: finite })), v.length(5))),
      /** Greedy continuation while the margin of the best logit is at least 0.1. */
      greedy: tokens,
    }),
  ),
});

const stage = v.strictObject({
  name: text,
  steps: count,
  tokens: count,
  seconds: finite,
  loss: v.nullable(finite),
});

const manifest = v.strictObject({
  format: v.literal(FORMAT_VERSION),
  id,
  name: bilingual,
  licence: text,
  intendedUse: bilingual,
  limits: bilingual,
  provenance: v.strictObject({
    converter: text,
    checkpointSha256: sha256,
    stages: v.array(stage),
    data: v.array(v.strictObject({ source: text, licence: text, records: count })),
    metrics: v.record(v.pipe(v.string(), v.maxLength(128)), finite),
    /** What convert rounded by, with the SHA-256 of that file; absent in older packages. */
    recipe: v.optional(v.strictObject({ name: id, sha256, classes: recipeClasses })),
  }),
  config,
  quantization: v.strictObject({
    group: v.literal(GROUP_SIZE),
    origin: v.picklist(['training', 'convert']),
  }),
  files: v.pipe(v.array(file), v.minLength(1), v.maxLength(4096)),
  tensors: v.pipe(v.array(tensor), v.minLength(1), v.maxLength(16384)),
  adapter: v.nullable(adapter),
  tasks: v.pipe(v.array(task), v.minLength(1)),
  template,
  sampling,
  knownAnswer: v.nullable(knownAnswer),
});

export type Manifest = v.InferOutput<typeof manifest>;
export type ModelConfig = v.InferOutput<typeof config>;
export type TensorInfo = v.InferOutput<typeof tensor>;
export type TensorBlock = v.InferOutput<typeof block>;
export type FileInfo = v.InferOutput<typeof file>;
export type AdapterInfo = v.InferOutput<typeof adapter>;
export type AdaptedLinear = v.InferOutput<typeof adaptedLinear>;
export type ChatTemplate = v.InferOutput<typeof template>;
export type KnownAnswer = v.InferOutput<typeof knownAnswer>;

/** Checks the shape of a manifest from outside. @throws Failure BadManifest with the field's path */
export function parseManifestShape(json: unknown): Manifest {
  const result = v.safeParse(manifest, json, { abortEarly: true });
  if (result.success) return result.output;
  const issue = result.issues[0];
  throw new Failure('BadManifest', `${v.getDotPath(issue) ?? 'manifest'}: ${issue.message}`);
}
