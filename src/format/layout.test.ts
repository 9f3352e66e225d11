import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { failureName } from '../failure.ts';
import { blockBytes, parseManifest, qPlaneBytes, tensorByName } from './layout.ts';
import { MAX_MANIFEST_BYTES, type ModelConfig } from './manifest.ts';
import { exampleManifest } from './testing.ts';

const encode = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

/** Sets the value at a path of keys and indices. */
function put(target: unknown, path: readonly (string | number)[], value: unknown): unknown {
  const root = structuredClone(target);
  let at = root as Record<string | number, unknown>;
  for (const key of path.slice(0, -1)) at = at[key] as Record<string | number, unknown>;
  at[path.at(-1) ?? ''] = value;
  return root;
}

function message(manifest: unknown): string {
  try {
    parseManifest(encode(manifest));
  } catch (error) {
    if (failureName(error) !== 'BadManifest') throw error;
    return error instanceof Error ? error.message : '';
  }
  return 'accepted';
}

describe('sizes', () => {
  it('follow from dtype, rows and columns', () => {
    expect(qPlaneBytes('q4', 3, 64)).toBe(96);
    expect(blockBytes('q4', 3, 64)).toBe(112); // 96 + 12 of scales, up to 16
    expect(blockBytes('q8', 1, 32)).toBe(48); // 32 + 2
    expect(blockBytes('f16', 5, 3)).toBe(32);
    expect(blockBytes('f32', 32, 1)).toBe(128);
  });
});

describe('a manifest', () => {
  it.each(['merged', 'routed'] as const)('that is right is accepted, %s', (mode) => {
    const manifest = exampleManifest(mode);
    expect(parseManifest(encode(manifest))).toEqual(manifest);
    expect(tensorByName(manifest).get('embed')?.shape).toEqual([300, 32]);
  });

  it.each<Partial<ModelConfig>>([
    { positions: { kind: 'alibi' } },
    { architecture: 'llama', kvHeads: 1, qkvBias: false },
    { architecture: 'qwen2', kvHeads: 1, qkvBias: true, tiedHead: true },
    { architecture: 'qwen3', heads: 4, headDim: 32, qkNorm: true },
  ])('of another architecture is accepted, %j', (changes) => {
    const manifest = exampleManifest('merged', changes);
    expect(parseManifest(encode(manifest))).toEqual(manifest);
  });

  it.each([{ qkvBias: true }, { qkNorm: true }])('with ALiBi and %j is refused', (changes) => {
    const manifest = exampleManifest('merged', { ...changes, positions: { kind: 'alibi' } });
    expect(message(manifest)).toContain('goes with rotary positions');
  });

  it('names the tensors that only some architectures have', () => {
    const has = { qkvBias: true, qkNorm: true, tiedHead: true };
    const tensors = tensorByName(exampleManifest('merged', { ...has, kvHeads: 1 }));
    expect(tensors.get('layers.1.qkv_bias')?.shape).toEqual([64]);
    expect(tensors.get('layers.1.qk_norm')?.shape).toEqual([32]);
    expect(tensors.has('head')).toBe(false);
  });

  const q4 = { dtype: 'q4', group: 32, scales: 'search' };
  const q8 = { dtype: 'q8', group: 32, scales: 'naive' };
  const classes = {
    embedding: q8,
    attention_qkv: q4,
    attention_out: q4,
    ffn_gate_up: q4,
    ffn_down: { ...q4, scales: 'naive' },
    vectors: { dtype: 'f32' },
    head: q8,
  };
  it.each([
    ['is accepted', {}, 'accepted'],
    ['for other types is refused', { head: q4 }, 'head is q4, head q8'],
    [
      'for vectors likewise',
      { vectors: { dtype: 'f16' } },
      'vectors is f16, layers.0.attention_norm',
    ],
    ['of another class is refused', { tail: q4 }, 'provenance.recipe.classes.tail'],
  ])('that says its recipe %s', (_, change, expected) => {
    const recipe = { name: 'mine', sha256: 'd'.repeat(64), classes: { ...classes, ...change } };
    const manifest = put(exampleManifest(), ['provenance', 'recipe'], recipe);
    expect(message(manifest)).toContain(expected);
    if (expected !== 'accepted') return;
    expect(parseManifest(encode(manifest)).provenance.recipe).toEqual(recipe);
    const trained = put(manifest, ['quantization', 'origin'], 'training');
    expect(message(trained)).toContain('a recipe, though the integers are of training');
  });

  it('without an adapter is accepted', () => {
    const { tensors, files, ...rest } = exampleManifest();
    const base = {
      ...rest,
      adapter: null,
      tensors: tensors.filter(({ name }) => !name.startsWith('adapter')),
      files: files.filter(({ name }) => !name.startsWith('adapter')),
    };
    expect(message(base)).toBe('accepted');
  });

  it('is not parsed beyond 1 MiB', () => {
    expect(() => parseManifest(new Uint8Array(MAX_MANIFEST_BYTES + 1).fill(0x20))).toThrow(
      'more than 1048576',
    );
  });

  it('must be UTF-8 JSON', () => {
    expect(() => parseManifest(Uint8Array.of(0x22, 0xff, 0x22))).toThrow('not UTF-8 JSON');
    expect(() => parseManifest(encode('x').subarray(1))).toThrow('not UTF-8 JSON');
  });

  const gates = ['adapter', 'gates', 'medkqa'];
  const row5 = [9, 8, 7, 6, 5].map((logit, id) => ({ id, logit }));
  const refused: [string, (string | number)[], unknown, string][] = [
    ['a newer format', ['format'], 2, 'format'],
    ['a path as a file name', ['files', 0, 'name'], '../x', 'files.0.name'],
    ['itself as a file', ['files', 1, 'name'], 'manifest.json', 'lists itself'],
    ['a file twice', ['files', 2, 'name'], 'shard-00000.bin', 'listed twice'],
    ['a shard above 16 MiB', ['files', 1, 'bytes'], 2 ** 24 + 1, 'more than 16777216'],
    ['no tokenizer', ['files', 0, 'name'], 'words.json', 'tokenizer.json is not'],
    ['a shard too short', ['files', 1, 'bytes'], 4096, "ends after the file's 4096 bytes"],
    ['two tensors of one name', ['tensors', 1, 'name'], 'embed', 'same name'],
    ['a block in no file', ['tensors', 0, 'blocks', 0, 'file'], 'shard-9.bin', 'no such file'],
    [
      'a block in the tokenizer',
      ['tensors', 0, 'blocks', 0, 'file'],
      'tokenizer.json',
      'no tensors',
    ],
    ['an offset off the grid', ['tensors', 0, 'blocks', 0, 'offset'], 16, 'multiple of 256'],
    ['a block of wrong size', ['tensors', 0, 'blocks', 0, 'bytes'], 16, 'bytes, not 10208'],
    ['rows that do not follow', ['tensors', 0, 'blocks', 0, 'rows'], [1, 300], 'do not follow'],
    ['rows backwards', ['tensors', 0, 'blocks', 0, 'rows'], [0, 0], 'rows.1'],
    ['a q4 vector', ['tensors', 1, 'dtype'], 'q4', 'wants [N, K]'],
    ['blocks that overlap', ['tensors', 3, 'blocks', 0, 'offset'], 0, 'overlap in shard-00000.bin'],
    ['heads that do not fit', ['config', 'heads'], 4, 'qkv is q4 [96, 32], not q4 [128, 32]'],
    ['key heads that do not divide', ['config', 'kvHeads'], 3, 'unevenly'],
    ['more layers than tensors', ['config', 'layers'], 2 ** 50, 'no tensors for'],
    ['a layer too many', ['config', 'layers'], 3, 'tensor layers.2.attention_norm is missing'],
    ['a layer too few', ['config', 'layers'], 1, 'has no place'],
    ['another vocabulary', ['config', 'vocab'], 301, 'embed is q8 [300, 32], not q8 [301, 32]'],
    ['normEps 0', ['config', 'normEps'], 0, 'normEps'],
    ['theta below 0', ['config', 'positions', 'theta'], -1, 'theta'],
    ['another architecture', ['config', 'architecture'], 'gpt2', 'config.architecture'],
    ['other positions', ['config', 'positions', 'kind'], 'learned', 'config.positions.kind'],
    ['ALiBi with a theta', ['config', 'positions', 'kind'], 'alibi', 'config.positions.theta'],
    ['a bias without its tensor', ['config', 'qkvBias'], true, 'layers.0.qkv_bias is missing'],
    ['a norm without its tensor', ['config', 'qkNorm'], true, 'layers.0.qk_norm is missing'],
    ['a tied head that is stored', ['config', 'tiedHead'], true, 'tensor head has no place'],
    ['a flag that is no flag', ['config', 'tiedHead'], 1, 'config.tiedHead'],
    ['a flag nobody knows', ['config', 'mlpBias'], true, 'config'],
    ['an adapter nobody uses', ['adapter'], null, 'adapter.layers.0.gate_proj.a has no place'],
    ['an adapter of nothing', ['adapter', 'linears'], [], 'no linears'],
    ['a linear twice', ['adapter', 'linears', 1, 'linear'], 'layers.0.mlp.gate_proj', 'twice'],
    ['a linear off target', ['adapter', 'linears', 0, 'linear'], 'layers.0.mlp.x', 'targets'],
    ['a target without linears', ['adapter', 'targets', 3], 'W_pack', 'no linear for target'],
    ['a linear in no tensor', ['adapter', 'linears', 0, 'tensor'], 'layers.9.gate_up', 'not a q4'],
    ['a linear in a norm', ['adapter', 'linears', 0, 'tensor'], 'norm', 'not a q4'],
    ['a linear beyond its tensor', ['adapter', 'linears', 1, 'rows'], [64, 129], '64 to 129'],
    ['linears on the same rows', ['adapter', 'linears', 1, 'rows'], [63, 127], 'share rows'],
    ['A missing', ['adapter', 'linears', 0, 'a'], 'adapter.none', 'adapter.none is missing'],
    ['A used twice', ['adapter', 'linears', 1, 'a'], 'adapter.layers.0.gate_proj.a', 'used twice'],
    ['another rank', ['adapter', 'rank'], 3, 'not f16 [12, 32]'],
    ['a router when merged', ['adapter', 'linears', 0, 'router'], 'norm', 'has a router'],
    ['no router when routed', ['adapter', 'mode'], 'routed', 'lacks its router'],
    ['gates of no task', ['adapter', 'gates', 'other'], [], 'unknown task other'],
    ['gates for too few linears', gates, [], '0 rows of gates'],
    ['too few gates', [...gates, 0], [1], '1 gates for 3'],
    ['gates without a router', ['adapter', 'router'], 'absent', 'not uniform'],
    ['no gates for a task', ['adapter', 'gates', 'evidiag'], undefined, 'no gates for evidiag'],
    ['a task twice', ['tasks', 1, 'id'], 'medkqa', 'a task stands twice'],
    ['a stop id outside', ['template', 'stopIds', 0], 300, 'token 300'],
    ['topP 0', ['sampling', 'topP'], 0, 'topP'],
    ['temperature below 0', ['sampling', 'temperature'], -1, 'temperature'],
    ['no penalty at all', ['sampling', 'repetitionPenalty'], 0, 'repetitionPenalty'],
    ['tolerance 0', ['knownAnswer', 'tolerance', 'f32'], 0, 'tolerance'],
    [
      'answers of no task',
      ['knownAnswer', 'tasks', 'x'],
      { tokens: [1], top: [row5], greedy: [] },
      'unknown task x',
    ],
    ['too few rows of answers', ['knownAnswer', 'tasks', 'medkqa', 'top'], [row5], '1 rows for 2'],
    ['a token outside', ['knownAnswer', 'tasks', 'medkqa', 'greedy'], [999], 'token 999'],
    ['logits out of order', ['knownAnswer', 'tasks', 'medkqa', 'top', 0, 0, 'logit'], 1, 'order'],
    ['a field nobody knows', ['extra'], 1, 'extra'],
  ];
  it.each(refused)('with %s is refused', (_, path, value, expected) => {
    expect(message(put(exampleManifest(), path, value))).toContain(expected);
  });

  it('that is routed wants a trained router', () => {
    const manifest = exampleManifest('routed');
    expect(message(put(manifest, ['adapter', 'router'], 'absent'))).toContain('without a router');
  });

  it('with a file that holds nothing is refused', () => {
    const manifest = exampleManifest();
    manifest.files.push({ name: 'shard-00001.bin', bytes: 5, sha256: 'd'.repeat(64) });
    expect(message(manifest)).toContain('shard-00001.bin holds nothing');
  });

  it('with adapter and base in one file is refused', () => {
    const manifest = exampleManifest();
    const base = manifest.files.find(({ name }) => name === 'shard-00000.bin');
    const moved = manifest.tensors.find(({ name }) => name.startsWith('adapter'));
    const block = moved?.blocks[0];
    if (base === undefined || block === undefined) throw new Error('example without adapter');
    block.file = base.name;
    block.offset = Math.ceil(base.bytes / 256) * 256;
    base.bytes = block.offset + block.bytes;
    expect(message(manifest)).toContain('shares shard-00000.bin with the base');
  });
});

/** Every leaf of a JSON value, as paths. */
function leaves(value: unknown, path: (string | number)[] = []): (string | number)[][] {
  if (typeof value !== 'object' || value === null) return [path];
  return Object.entries(value).flatMap(([key, inner]) =>
    leaves(inner, [...path, Array.isArray(value) ? Number(key) : key]),
  );
}

it('never accepts a corrupted manifest with a block out of range, overlapping or of wrong size', () => {
  const original = exampleManifest('routed');
  const paths = leaves(original);
  const wrong = fc.oneof(
    fc.integer({ min: -1, max: 40000 }),
    fc.constantFrom(0, 256, 512, 2 ** 31, 2 ** 53, -256, 1.5, null, '', 'shard-00000.bin', 'embed'),
    fc.constantFrom('q4', 'q8', 'f16', 'f32', 'tokenizer.json', 'adapter-00000.bin', [], {}),
  );
  const change = fc.tuple(fc.constantFrom(...paths), wrong);
  let accepted = 0;
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
      let corrupted: unknown = original;
      for (const [path, value] of changes) corrupted = put(corrupted, path, value);
      let manifest;
      try {
        manifest = parseManifest(encode(corrupted));
      } catch (error) {
        expect(failureName(error)).toBe('BadManifest');
        return;
      }
      accepted++;
      const sizes = new Map(manifest.files.map(({ name, bytes }) => [name, bytes]));
      const spans = manifest.tensors.flatMap(({ dtype, shape, blocks }) =>
        blocks.map(({ file, offset, bytes, rows }) => {
          expect(offset % 256).toBe(0);
          expect(offset + bytes).toBeLessThanOrEqual(sizes.get(file) ?? -1);
          expect(bytes).toBe(blockBytes(dtype, rows[1] - rows[0], shape[1] ?? 1));
          return { file, from: offset, to: offset + bytes };
        }),
      );
      for (const a of spans) {
        const clash = spans.some(
          (b) => a !== b && a.file === b.file && a.from < b.to && b.from < a.to,
        );
        expect(clash).toBe(false);
      }
    }),
    { numRuns: 1500 },
  );
  expect(accepted).toBeGreaterThan(0); // harmless fields were hit as well: the test can fail
});
