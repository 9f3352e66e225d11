import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { cpus, release } from 'node:os';
import { basename, dirname, join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { chromium, type Browser, type Page } from '@playwright/test';
import { build } from 'vite';
import { readManifest } from '../../convert/reader.ts';
import {
  benchTokens,
  MATMUL_PAIRS,
  type EngineName,
  type LoadOptions,
  type Measured,
} from './engine.ts';
import { writeOnnxModels } from './onnx-models.ts';
import { randomPackage, type Shape } from './random-model.ts';
import { relativeDifference, round, type BenchResult } from './rows.ts';
import { rowsOf, type Samples } from './page-rows.ts';
import { serve } from './server.ts';

/** The benchmark on a page: our engine and ONNX Runtime Web by turns, on the same 4-bit weights. */

export interface PageOptions {
  readonly shape: Shape;
  readonly engines: readonly EngineName[];
  readonly contexts: readonly number[];
  readonly promptTokens: number;
  /** At most; none is begun that would end later than `minutes` after the start. */
  readonly repetitions: number;
  readonly minutes: number;
  readonly threads: number;
  readonly hardware: boolean;
  readonly command: string;
  readonly log: (line: string) => void;
}

/** Pairs of steps with and without the adapter: from run to run their median still moves by one in a hundred. */
const ADAPTER_STEPS = 96;

const root = fileURLToPath(new URL('../../', import.meta.url));
export const cache = join(root, '.cache/bench');

/** See `LoadOptions`. */
const LONGEST_RIGHT_PASS = 31;

/** What rounding may do to a logit, as a part of their root mean square. */
const tolerance: Readonly<Record<Exclude<EngineName, 'ours'>, number>> = {
  'ort-webgpu': 0.002,
  'ort-wasm': 0.002,
  'ort-webgpu-int8': 0.25, // activations of 8 bits, the worst of all logits; a wrong engine is off by their whole size
};

/** @throws Error where an engine's numbers are not ours: a fast wrong answer is none */
export async function benchPage(options: PageOptions): Promise<BenchResult> {
  const { log, shape, engines } = options;
  const folder = await randomPackage(cache, shape);
  const manifest = await readManifest(folder);
  await writeOnnxModels(folder, manifest);
  const page = await buildPage();
  const server = await serve({ '': page, package: folder, ort: ortFolder() });
  const browser = await launch(options.hardware);
  try {
    const tabs = new Map<EngineName, Page>();
    const machine: Record<string, string> = await describe(browser);
    for (const engine of engines) {
      const tab = await browser.newPage();
      tab.on('console', (message) => {
        if (message.type() === 'error') log(`${engine}: ${message.text()}`);
      });
      await tab.goto(server.url);
      const info = await tab.evaluate((load) => bench?.load(load), loadOptions(engine, options));
      machine[engine] = info ?? '';
      log(`${engine}: ${info ?? ''}`);
      tabs.set(engine, tab);
    }
    const run = new PageRun(tabs, options);
    const differences = await run.compare();
    const samples = await run.measure();
    return {
      date: new Date().toISOString(),
      machine,
      model: {
        ...shape,
        parameters: parameters(shape),
        matmuls: `${2 * MATMUL_PAIRS} of ${shape.width} x ${shape.mlpWidth}`,
      },
      command: options.command,
      differences,
      rows: rowsOf(samples, options),
      samples,
    };
  } finally {
    await browser.close();
    await server.close();
  }
}

/** What lets the peer be right, and as fast as that allows. */
function loadOptions(engine: EngineName, { threads, hardware }: PageOptions): LoadOptions {
  const software = !hardware && engine !== 'ours';
  return {
    engine,
    threads,
    hideSubgroups: software && engine === 'ort-webgpu',
    longestPass: software && engine === 'ort-webgpu-int8' ? LONGEST_RIGHT_PASS : Infinity,
  };
}

class PageRun {
  readonly #tabs: ReadonlyMap<EngineName, Page>;
  readonly #options: PageOptions;
  readonly #samples: Record<string, number[]> = {};
  readonly #start = performance.now();
  #repetitions = 0;

  constructor(tabs: ReadonlyMap<EngineName, Page>, options: PageOptions) {
    this.#tabs = tabs;
    this.#options = options;
  }

  /** Logits of a prompt and of steps after it, and products of matrices: all must be ours. */
  async compare(): Promise<Record<string, number>> {
    const { promptTokens, shape, log } = this.#options;
    const prompt = benchTokens(promptTokens, shape.vocab);
    const steps = benchTokens(2, shape.vocab, promptTokens);
    const outputs = new Map<EngineName, readonly (readonly number[])[]>();
    for (const engine of this.#tabs.keys()) {
      const all = [
        await this.#prefill(engine, prompt),
        await this.#decode(engine, promptTokens, steps),
        await this.#matmuls(engine, 1, 1),
        await this.#matmuls(engine, promptTokens, 1),
      ];
      outputs.set(
        engine,
        all.map(({ output }) => output),
      );
    }
    const ours = outputs.get('ours') ?? [];
    const names = ['prefill', 'decode', 'matmuls 1', `matmuls ${promptTokens}`];
    const differences: Record<string, number> = {};
    const wrong: string[] = [];
    for (const [engine, all] of outputs) {
      if (engine === 'ours') continue;
      names.forEach((name, i) => {
        const difference = relativeDifference(ours[i] ?? [], all[i] ?? []);
        differences[`${engine}: ${name}`] = round(difference, 3);
        log(`${engine}: ${name} differs by ${difference.toExponential(2)} of its size`);
        if (!(difference <= tolerance[engine])) wrong.push(`${engine}: ${name}`);
      });
    }
    if (wrong.length > 0) throw new Error(`not the same numbers as ours: ${wrong.join(', ')}`);
    return differences;
  }

  async measure(): Promise<Samples> {
    const { contexts, promptTokens, repetitions, minutes, shape, log } = this.#options;
    const prompt = benchTokens(promptTokens, shape.vocab);
    const [short = promptTokens, ...long] = contexts;
    const end = this.#start + minutes * 60_000;
    let lastMs = 0;
    while (this.#repetitions < repetitions) {
      const begin = performance.now();
      if (this.#repetitions > 0 && begin + lastMs > end) break;
      this.#repetitions += 1;
      log(`repetition ${this.#repetitions} of at most ${repetitions}`);
      // By turns: whatever else the machine does meets every engine.
      for (const engine of this.#tabs.keys()) {
        const steps = engine === 'ours' ? 4 : 2;
        this.#add(`${engine} prefill`, await this.#prefill(engine, prompt));
        if (short !== promptTokens) await this.#prefill(engine, benchTokens(short, shape.vocab));
        const tokens = benchTokens(steps, shape.vocab, 5);
        this.#add(`${engine} decode ${short}`, await this.#decode(engine, short, tokens));
        this.#add(`${engine} matmuls 1`, await this.#matmuls(engine, 1, steps));
        this.#add(
          `${engine} matmuls ${promptTokens}`,
          await this.#matmuls(engine, promptTokens, 1),
        );
      }
      lastMs = performance.now() - begin;
    }
    if (shape.adapterRank > 0) await this.#adapter(short);
    for (const context of long) await this.#longContext(short, context);
    return this.#samples;
  }

  /** Steps with and without the adapter, one beside the other; switches of its task. */
  async #adapter(context: number): Promise<void> {
    const { shape, log } = this.#options;
    log('adapter');
    const tokens = benchTokens(ADAPTER_STEPS, shape.vocab, 9);
    const cost = await this.#tab('ours').evaluate(([at, list]) => bench?.adapter(at, list), [
      context,
      tokens,
    ] as const);
    this.#samples['ours adapter without'] = [...(cost?.without ?? [])];
    this.#samples['ours adapter with'] = [...(cost?.with ?? [])];
    this.#samples['ours task switch'] = [...(cost?.switch ?? [])];
  }

  /** Ours repeats what it has; the peer's takes whatever lies there, which costs the same. */
  async #longContext(short: number, context: number): Promise<void> {
    const { shape, log } = this.#options;
    log(`a cache of ${context} tokens`);
    await this.#tab('ours').evaluate(([few, many]) => bench?.prepare(few, many), [
      short,
      context,
    ] as const);
    for (let i = 0; i < this.#repetitions; i++) {
      for (const engine of this.#tabs.keys()) {
        const tokens = benchTokens(engine === 'ours' ? 4 : 2, shape.vocab, 5);
        this.#add(`${engine} decode ${context}`, await this.#decode(engine, context, tokens));
        if (engine !== 'ours') continue;
        // The short context again, next to the long one: their ratio is of the same minutes.
        this.#add(
          `${engine} decode ${short} beside ${context}`,
          await this.#decode(engine, short, tokens),
        );
      }
    }
  }

  #add(name: string, { ms }: Measured): void {
    this.#samples[name] = [...(this.#samples[name] ?? []), ...ms];
  }

  async #prefill(engine: EngineName, tokens: readonly number[]): Promise<Measured> {
    return measured(await this.#tab(engine).evaluate((list) => bench?.prefill(list), tokens));
  }

  async #decode(engine: EngineName, context: number, tokens: readonly number[]): Promise<Measured> {
    const result = await this.#tab(engine).evaluate(([at, list]) => bench?.decode(at, list), [
      context,
      tokens,
    ] as const);
    return measured(result);
  }

  async #matmuls(engine: EngineName, tokens: number, repetitions: number): Promise<Measured> {
    const result = await this.#tab(engine).evaluate(
      ([count, times]) => bench?.matmuls(count, times),
      [tokens, repetitions] as const,
    );
    return measured(result);
  }

  #tab(engine: EngineName): Page {
    const tab = this.#tabs.get(engine);
    if (tab === undefined) throw new Error(`no page runs ${engine}`);
    return tab;
  }
}

function measured(result: Measured | undefined): Measured {
  if (result === undefined) throw new Error('the page lost its benchmark');
  return result;
}

/** Weights of the base model. */
export function parameters({ vocab, width, layers, heads, kvHeads, mlpWidth }: Shape): number {
  const kv = (kvHeads * width) / heads;
  return 2 * vocab * width + layers * (2 * width * width + 2 * kv * width + 3 * mlpWidth * width);
}

/** Builds the page where the app never looks. */
export async function buildPage(): Promise<string> {
  const outDir = join(cache, 'page');
  await build({
    root: join(root, 'src/bench/page'),
    configFile: false,
    base: './',
    logLevel: 'warn',
    // Not minified: what a peer says of a failure has names. It comes from this machine's disk.
    build: {
      target: 'es2023',
      outDir,
      emptyOutDir: true,
      minify: false,
      chunkSizeWarningLimit: 10_000,
    },
  });
  return outDir;
}

function ortFolder(): string {
  return dirname(fileURLToPath(import.meta.resolve('onnxruntime-web/wasm')));
}

const places = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** Chromium; on a machine without a GPU SwiftShader computes, on two cores or all of them. */
export async function launch(hardware: boolean): Promise<Browser> {
  const executablePath = process.env['CHROMIUM'] ?? places.find((place) => existsSync(place));
  if (executablePath === undefined) {
    throw new Error('No Chromium found: install Debian’s `chromium`, or set CHROMIUM to its path.');
  }
  const gpu = hardware
    ? ['--enable-features=Vulkan', '--use-angle=vulkan', '--ignore-gpu-blocklist']
    : ['--use-webgpu-adapter=swiftshader'];
  const args = ['--headless=new', '--no-sandbox', '--enable-unsafe-webgpu', ...gpu];
  // Slow software passes are no hang.
  return chromium.launch({ executablePath, args: [...args, '--disable-gpu-watchdog'] });
}

export async function describe(
  browser: Browser,
  peer = 'onnxruntime-web',
): Promise<Record<string, string>> {
  const [cpu] = cpus();
  const path = join(root, 'node_modules', peer, 'package.json');
  const { version } = JSON.parse(await readFile(path, 'utf8')) as { version: string };
  return {
    cpu: `${cpus().length} x ${cpu?.model ?? 'unknown'}`,
    system: `${process.platform} ${release()}, Node ${process.version}`,
    browser: `Chromium ${browser.version()}`,
    peer: `${basename(peer)} ${version}`,
  };
}
