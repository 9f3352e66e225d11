import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as ort from 'onnxruntime-web';
import protobuf from 'protobufjs/light.js';
import * as v from 'valibot';
import type { Manifest } from '../../src/format/manifest.ts';
import type { Place } from '../../src/onnx/graph.ts';
import { messages } from '../../src/onnx/proto.ts';

/** A written `model.onnx` in ONNX Runtime's WebAssembly, as a page would run it; for tests. */

ort.env.wasm.numThreads = 1;
ort.env.logLevel = 'error';

export class OnnxSession {
  readonly #session: ort.InferenceSession;
  readonly #manifest: Manifest;
  readonly #task: string;
  #cache: Record<string, ort.Tensor> = {};
  #length = 0;

  private constructor(session: ort.InferenceSession, manifest: Manifest, task: string) {
    this.#session = session;
    this.#manifest = manifest;
    this.#task = task;
    this.clear();
  }

  static async open(
    model: Uint8Array,
    manifest: Manifest,
    folder: string,
    task: string,
  ): Promise<OnnxSession> {
    const shards = manifest.files.filter(({ name }) => name.endsWith('.bin'));
    const externalData = shards.map(async ({ name }) => {
      return { path: name, data: new Uint8Array(await readFile(join(folder, name))) };
    });
    const session = await ort.InferenceSession.create(model, {
      executionProviders: ['wasm'],
      externalData: await Promise.all(externalData),
    });
    return new OnnxSession(session, manifest, task);
  }

  get inputs(): readonly string[] {
    return this.#session.inputNames;
  }

  clear(): void {
    const { layers, kvHeads, headDim } = this.#manifest.config;
    const empty = () => new ort.Tensor('float32', [], [1, kvHeads, 0, headDim]);
    this.#length = 0;
    for (let i = 0; i < layers; i++) {
      this.#cache[`past_key_values.${i}.key`] = empty();
      this.#cache[`past_key_values.${i}.value`] = empty();
    }
  }

  /** Appends tokens to the cache; logits [V] of the last one. */
  async run(tokens: readonly number[]): Promise<Float32Array> {
    this.#length += tokens.length;
    const ones = new BigInt64Array(this.#length).fill(1n);
    const feeds: Record<string, ort.Tensor> = {
      ...this.#cache,
      ...this.#gates(),
      input_ids: new ort.Tensor('int64', BigInt64Array.from(tokens, BigInt), [1, tokens.length]),
      attention_mask: new ort.Tensor('int64', ones, [1, ones.length]),
    };
    const results = await this.#session.run(feeds);
    for (const name of Object.keys(this.#cache)) {
      const present = results[name.replace('past_key_values', 'present')];
      if (present === undefined) throw new Error(`no output for ${name}`);
      this.#cache[name] = present;
    }
    const logits = results['logits'];
    if (!(logits?.data instanceof Float32Array)) throw new Error('logits are not f32');
    return logits.data;
  }

  async close(): Promise<void> {
    await this.#session.release();
  }

  #gates(): Record<string, ort.Tensor> {
    const rows = this.#manifest.adapter?.gates[this.#task];
    if (!this.#session.inputNames.includes('gates') || rows === undefined) return {};
    const shape = [rows.length, rows[0]?.length ?? 0];
    return { gates: new ort.Tensor('float32', Float32Array.from(rows.flat()), shape) };
  }
}

const StoredTensors = v.object({
  graph: v.object({
    initializer: v.array(
      v.object({
        externalData: v.optional(v.array(v.object({ key: v.string(), value: v.string() })), []),
      }),
    ),
  }),
});

/** The messages of an .onnx file, read by protobufjs itself. */
function decodeModel(bytes: Uint8Array): unknown {
  const nested = Object.entries(messages).map(([name, fields]) => [name, { fields }] as const);
  const root = protobuf.Root.fromJSON({ nested: Object.fromEntries(nested) });
  const type = root.lookupType('ModelProto');
  return type.toObject(type.decode(bytes));
}

/** Where the stored tensors of a model lie. */
export function parseExternal(model: Uint8Array): Place[] {
  const { graph } = v.parse(StoredTensors, decodeModel(model));
  return graph.initializer.flatMap(({ externalData }) => {
    if (externalData.length === 0) return [];
    const entry = Object.fromEntries(externalData.map(({ key, value }) => [key, value]));
    const { location = '', offset, length } = entry;
    return [{ file: location, offset: Number(offset), bytes: Number(length) }];
  });
}
