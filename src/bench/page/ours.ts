import type { Manifest } from '../../format/manifest.ts';
import { requestGpu, type GpuDevice } from '../../gpu/device.ts';
import { Model } from '../../model/model.ts';
import { repeated } from '../../node/bench-work.ts';
import { benchTokens, type AdapterCost, type Measured, type OurEngine } from '../engine.ts';
import { fetchBytes, withoutAdapter } from './package.ts';
import { createMatmuls, type Matmuls } from './ours-matmuls.ts';

/** Our engine: the same Model and shaders as in the app. */
export async function loadOurs(manifest: Manifest): Promise<OurEngine> {
  const owner = await requestGpu(navigator.gpu);
  const base = withoutAdapter(manifest);
  const load = (one: Manifest): Promise<Model> => Model.load(owner, one, fetchBytes);
  return new Ours(owner, manifest, await load(base), load, () => createMatmuls(owner, base));
}

class Ours implements OurEngine {
  readonly info: string;
  readonly #owner: GpuDevice;
  readonly #manifest: Manifest;
  readonly #model: Model;
  readonly #load: (manifest: Manifest) => Promise<Model>;
  readonly #createMatmuls: () => Promise<Matmuls>;
  /** Caches by the tokens that they hold. */
  readonly #caches = new Map<number, Uint8Array<ArrayBuffer>>();
  #adapted: Model | null = null;
  #matmuls: Matmuls | null = null;

  constructor(
    owner: GpuDevice,
    manifest: Manifest,
    model: Model,
    load: (manifest: Manifest) => Promise<Model>,
    createMatmuls: () => Promise<Matmuls>,
  ) {
    this.info = `${owner.adapterName}, ${owner.variant}`;
    this.#owner = owner;
    this.#manifest = manifest;
    this.#model = model;
    this.#load = load;
    this.#createMatmuls = createMatmuls;
  }

  async prefill(tokens: readonly number[]): Promise<Measured> {
    this.#model.truncate(0);
    return prefill(this.#model, tokens);
  }

  async prepare(short: number, long: number): Promise<void> {
    await this.prefill(benchTokens(short, this.#manifest.config.vocab));
    const rows = await this.#model.readCache(short);
    this.#caches.set(short, rows);
    this.#caches.set(long, repeated(rows, this.#manifest, this.#owner.cache, short, long));
  }

  async decode(context: number, tokens: readonly number[]): Promise<Measured> {
    const rows = this.#caches.get(context);
    if (rows !== undefined) {
      this.#model.writeCache(rows, context);
      await this.#owner.device.queue.onSubmittedWorkDone();
    }
    return this.#decode(this.#model, context, tokens);
  }

  async adapter(context: number, tokens: readonly number[]): Promise<AdapterCost> {
    const cost = { without: [] as number[], with: [] as number[], switch: [] as number[] };
    this.#adapted ??= await this.#load(this.#manifest);
    const adapted = this.#adapted;
    const prompt = benchTokens(context, this.#manifest.config.vocab);
    for (const { id } of [...this.#manifest.tasks, ...this.#manifest.tasks]) {
      const start = performance.now();
      adapted.setTask(id);
      await this.#owner.device.queue.onSubmittedWorkDone();
      cost.switch.push(performance.now() - start);
    }
    await adapted.prefill(prompt);
    this.#model.truncate(0);
    await this.#model.prefill(prompt);
    await this.#decode(adapted, context, tokens.slice(0, 1)); // what is compiled late is compiled
    for (let i = 0; i < tokens.length; i++) {
      // By turns, each first as often: what else the machine does meets both.
      const order = i % 2 === 0 ? [adapted, this.#model] : [this.#model, adapted];
      for (const model of order) {
        const { ms } = await this.#decode(model, context, tokens.slice(i, i + 1));
        (model === adapted ? cost.with : cost.without).push(...ms);
      }
    }
    return cost;
  }

  async matmuls(tokens: number, repetitions: number): Promise<Measured> {
    this.#matmuls ??= await this.#createMatmuls(); // they take memory, and not every shape has them
    return this.#matmuls(tokens, repetitions);
  }

  async #decode(model: Model, context: number, tokens: readonly number[]): Promise<Measured> {
    model.truncate(context);
    const ms: number[] = [];
    let output: number[] = [];
    for (const [i, token] of tokens.entries()) {
      const start = performance.now();
      const logits = await model.decode(token);
      ms.push(performance.now() - start);
      if (i === tokens.length - 1) output = [...logits];
    }
    return { ms, output };
  }
}

async function prefill(model: Model, tokens: readonly number[]): Promise<Measured> {
  const start = performance.now();
  const logits = await model.prefill(tokens);
  return { ms: [performance.now() - start], output: [...logits] };
}
