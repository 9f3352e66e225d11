import { failureName } from '../failure.ts';
import type { Backend } from './backend.ts';
import type { BackendMaker, Checked, RecoveryCause } from './recovery.ts';

/**
 * Which of GPU and CPU answers sooner on this device, found out once. The GPUs of cheap phones are
 * often slower than their CPUs, and neither a name nor a limit says which ones.
 */

/** Remembers the winner. A store that forgets costs the measurement, nothing else. */
export interface FasterStore {
  get(): Promise<Backend['name'] | null>;
  set(winner: Backend['name']): Promise<void>;
}

/** What is measured: about what a short question and a sentence of its answer take. */
const PROMPT = 48;
const STEPS = 12;
/** Turns, each backend in each of them: the first warms up caches and clocks. */
const TURNS = 2;
/** Ids below are special in many tokenizers; which ones these are does not matter for the time. */
const FIRST_ID = 3;

/** The GPU and the CPU both as the first backend, the slower one let go. */
export class FasterMaker implements BackendMaker {
  /** The GPU, and the CPU where that fails. */
  readonly #fallback: BackendMaker;
  readonly #cpu: BackendMaker;
  readonly #store: FasterStore;
  readonly #task: string;
  readonly #now: () => number;
  #current: BackendMaker;

  constructor(
    fallback: BackendMaker,
    cpu: BackendMaker,
    {
      store,
      task,
      now = () => performance.now(),
    }: { store: FasterStore; task: string; now?: () => number },
  ) {
    this.#fallback = fallback;
    this.#cpu = cpu;
    this.#store = store;
    this.#task = task;
    this.#now = now;
    this.#current = fallback;
  }

  /** @throws Failure as the GPU's and the CPU's makers do where neither gives a backend */
  async first(): Promise<Checked> {
    const known = await this.#store.get();
    if (known === 'onnx') {
      const cpu = await tried(this.#cpu);
      if (cpu !== null) return this.#take(this.#cpu, cpu);
    }
    const gpu = await this.#fallback.first();
    if (known !== null || gpu.backend.name === 'onnx') return gpu;
    let cpu: Checked | null;
    try {
      cpu = await tried(this.#cpu);
    } catch (error) {
      gpu.backend.dispose();
      throw error;
    }
    if (cpu === null) return gpu;
    return this.#faster(gpu, cpu);
  }

  helps(error: unknown): RecoveryCause | null {
    return this.#current.helps(error);
  }

  another(cause: RecoveryCause): Promise<Checked> {
    return this.#current.another(cause);
  }

  async #faster(gpu: Checked, cpu: Checked): Promise<Checked> {
    let [onGpu, onCpu] = [Infinity, Infinity];
    try {
      for (let turn = 0; turn < TURNS; turn++) {
        onGpu = await this.#milliseconds(gpu.backend);
        onCpu = await this.#milliseconds(cpu.backend);
      }
    } catch (error) {
      // One of them cannot even do that: the GPU's own way of failing over decides.
      if (failureName(error) === 'Bug') throw error;
      cpu.backend.dispose();
      return gpu;
    }
    const isGpu = onGpu <= onCpu;
    (isGpu ? cpu : gpu).backend.dispose();
    await this.#store.set(isGpu ? 'wgsl' : 'onnx');
    return isGpu ? gpu : this.#take(this.#cpu, cpu);
  }

  /** A prompt and some steps, from an empty cache. The engine enters its task anew afterwards. */
  async #milliseconds(backend: Backend): Promise<number> {
    backend.setTask(this.#task);
    const ids = Array.from(
      { length: PROMPT },
      (_, i) => FIRST_ID + (i % (backend.config.vocab - FIRST_ID)),
    );
    const start = this.#now();
    await backend.prefill(ids);
    for (let step = 0; step < STEPS; step++) await backend.decode(ids[step] ?? FIRST_ID);
    const taken = this.#now() - start;
    backend.truncate(0);
    return taken;
  }

  #take(maker: BackendMaker, checked: Checked): Checked {
    this.#current = maker;
    return checked;
  }
}

/** The CPU's backend; null where it cannot serve here, and the GPU goes on alone. */
async function tried(maker: BackendMaker): Promise<Checked | null> {
  try {
    return await maker.first();
  } catch (error) {
    if (failureName(error) === 'Bug') throw error;
    return null;
  }
}
