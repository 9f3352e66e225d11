import { describe, expect, it } from 'vitest';
import { writeSafetensors, type SafetensorsTensor } from '../src/format/safetensors.ts';
import { blockReader } from './reader.ts';
import {
  checkpointFiles,
  f32,
  modelTensors,
  randomNumbers,
  tiny,
  type Tensors,
} from './testing.ts';
import { failure, run } from './testing-run.ts';

describe('integers from training', () => {
  /** Any bytes, any finite scales: nothing that a quantizer would come up with. */
  function quantized(): Tensors {
    const random = randomNumbers(4);
    const tensors: Tensors = {};
    for (const [name, { shape }] of Object.entries(modelTensors())) {
      if (shape.length !== 2) continue;
      const [rows, columns] = [shape[0] ?? 0, shape[1] ?? 0];
      const eight = name.startsWith('lm_head') || name.includes('embed');
      const width = eight ? columns : columns / 2;
      const q = Uint8Array.from({ length: rows * width }, () => 128 + 128 * random());
      const scale = Uint16Array.from(
        { length: (rows * columns) / 32 },
        () => 0x2000 + 900 * random(),
      );
      tensors[`${name}.q`] = { dtype: 'U8', shape: [rows, width], bytes: q };
      tensors[`${name}.scale`] = {
        dtype: 'F16',
        shape: [rows, columns / 32],
        bytes: new Uint8Array(scale.buffer),
      };
    }
    return tensors;
  }

  const join2 = (a: SafetensorsTensor | undefined, b?: SafetensorsTensor) =>
    Buffer.concat([a?.bytes ?? new Uint8Array(), b?.bytes ?? new Uint8Array()]);

  it('stand in the package bit for bit', async () => {
    const tensors = quantized();
    const files = { ...checkpointFiles(), 'quantized.safetensors': writeSafetensors(tensors) };
    const { manifest, out } = await run(files, null);
    expect(manifest.quantization.origin).toBe('training');
    const mlp = 'model.layers.1.mlp';
    const sources: [string, string[]][] = [
      ['embed', ['model.embed_tokens']],
      ['head', ['lm_head']],
      ['layers.0.qkv', ['model.layers.0.self_attn.W_pack']],
      ['layers.1.attention_out', ['model.layers.1.self_attn.o_proj']],
      ['layers.1.gate_up', [`${mlp}.gate_proj`, `${mlp}.up_proj`]],
      ['layers.1.down', [`${mlp}.down_proj`]],
    ];
    for (const [name, [one, two]] of sources) {
      const block = manifest.tensors.find((tensor) => tensor.name === name)?.blocks[0];
      if (block === undefined) throw new Error(`no block of ${name}`);
      const q = join2(tensors[`${one}.weight.q`], tensors[`${two}.weight.q`]);
      const scale = join2(tensors[`${one}.weight.scale`], tensors[`${two}.weight.scale`]);
      const expected = Buffer.concat([q, scale]);
      const bytes = Buffer.from(await blockReader(out)(block));
      expect(bytes.subarray(0, expected.length).equals(expected)).toBe(true);
      expect(bytes.subarray(expected.length).every((byte) => byte === 0)).toBe(true);
    }
  });

  it('need no floats beside them', async () => {
    const tensors = quantized();
    const vectors = Object.fromEntries(
      Object.entries(modelTensors()).filter(([, { shape }]) => shape.length === 1),
    );
    const files = { ...checkpointFiles(), 'quantized.safetensors': writeSafetensors(tensors) };
    const whole = await run(files, null);
    const small = await run({ ...files, 'model.safetensors': writeSafetensors(vectors) }, null);
    const hashes = ({ manifest }: typeof whole) => manifest.files.map((file) => file.sha256);
    expect(hashes(small)).toEqual(hashes(whole));
    await expect(
      failure(run({ ...checkpointFiles(), 'model.safetensors': writeSafetensors(vectors) }, null)),
    ).resolves.toContain('tensor model.embed_tokens.weight is missing');
  });

  it.each([
    [
      'a tensor less',
      (t: Tensors) => delete t['lm_head.weight.q'],
      'tensor lm_head.weight.q is missing',
    ],
    ['a tensor more', (t: Tensors) => (t['x.q'] = f32([1], () => 0)), 'tensor x.q has no place'],
    [
      'a scale that is not finite',
      (t: Tensors) => t['model.layers.0.mlp.up_proj.weight.scale']?.bytes.set([0, 0x7c], 4),
      'tensor model.layers.0.mlp.up_proj.weight.scale, row 1: Infinity',
    ],
    [
      'scales of another group size',
      (t: Tensors) => (t['lm_head.weight.scale'] = f32([tiny.vocab, 1], () => 1)),
      'tensor lm_head.weight.scale is F32 [288, 1], not F16 [288, 2]',
    ],
  ])('are refused with %s', async (_, change, message) => {
    const tensors = quantized();
    change(tensors);
    const files = { ...checkpointFiles(), 'quantized.safetensors': writeSafetensors(tensors) };
    expect(await failure(run(files, null))).toContain(message);
  });
});
