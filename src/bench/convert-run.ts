import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, readFile, rm } from 'node:fs/promises';
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { setTimeout as after } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { baichuan7b, randomCheckpoint, type Checkpoint } from './random-checkpoint.ts';
import { median, rateRow, round, type Bar, type BenchResult } from './rows.ts';

/** How fast `convert` reads a checkpoint of some gigabytes, against a plain copy of its files. */

export interface ConvertOptions {
  /** Layers of Baichuan2-7B: 0.4 GB of bf16 each, beside embeddings and head of 1 GB each. */
  readonly layers: number;
  readonly repetitions: number;
  readonly seed: number;
  /** Folder for the checkpoint, which stays there for the next run, and what is made of it. */
  readonly cache: string;
  readonly command: string;
  readonly log: (line: string) => void;
}

interface Taken {
  readonly milliseconds: number;
  /** The most memory that the command held at once, its threads together; 0 where nothing says. */
  readonly peakBytes: number;
}

/** The bars: MB of checkpoint a second by recipe, and memory. */
const BARS = { naive: 250, default: 60 } as const;
const MOST_MEMORY = 2 * 2 ** 30;
const MB = 1e6;

const converter = fileURLToPath(new URL('../../convert/main.ts', import.meta.url));

/** Converts with both recipes and copies, by turns. Known answers are left out: they are another command. */
export async function benchConvert(options: ConvertOptions): Promise<BenchResult> {
  const { layers, repetitions, seed, cache, command, log } = options;
  await mkdir(cache, { recursive: true });
  log(`a checkpoint of ${layers} layers in ${cache}`);
  const checkpoint = await randomCheckpoint(cache, baichuan7b(layers), seed);
  const rates: Record<string, number[]> = { copy: [], naive: [], default: [] };
  const peaks: Record<string, number> = { naive: 0, default: 0 };
  const rate = (ms: number) => checkpoint.bytes / MB / (ms / 1000);
  for (let turn = 0; turn < repetitions; turn++) {
    const copied = await copyOf(checkpoint, join(cache, 'copy'));
    rates['copy']?.push(rate(copied));
    for (const recipe of ['naive', 'default'] as const) {
      const taken = await converted(checkpoint, join(cache, 'package'), recipe);
      rates[recipe]?.push(rate(taken.milliseconds));
      peaks[recipe] = Math.max(peaks[recipe] ?? 0, taken.peakBytes);
      log(`${recipe}: ${round(rate(taken.milliseconds), 3)} MB/s, ${taken.peakBytes >> 20} MiB`);
    }
  }
  const copy = median(rates['copy'] ?? []);
  const bars: Bar[] = [];
  for (const recipe of ['naive', 'default'] as const) {
    const speed = median(rates[recipe] ?? []);
    const least = BARS[recipe];
    bars.push({
      what: `convert --recipe ${recipe}, MB/s of checkpoint`,
      measured: round(speed),
      bar: `>= ${least}`,
      met: speed >= least,
    });
    const peak = peaks[recipe] ?? 0;
    bars.push({
      what: `convert --recipe ${recipe}, MiB of memory at most`,
      measured: Math.ceil(peak / 2 ** 20),
      bar: '< 2048',
      met: peak > 0 && peak < MOST_MEMORY,
    });
  }
  return {
    date: new Date().toISOString(),
    machine: {
      cpu: cpus()[0]?.model ?? 'unknown',
      cores: String(availableParallelism()),
      node: process.version,
    },
    model: { layers, 'checkpoint GB': round(checkpoint.bytes / 1e9, 3), seed },
    command,
    differences: {},
    rows: (['naive', 'default'] as const).map((recipe) =>
      rateRow(`convert, recipe ${recipe}`, 'MB/s', median(rates[recipe] ?? []), copy, 'plain copy'),
    ),
    bars,
    samples: Object.fromEntries(
      Object.entries(rates).map(([name, list]) => [`${name} MB/s`, list.map((n) => round(n))]),
    ),
  };
}

/** Copies the files one after the other. @returns milliseconds */
async function copyOf({ folder, files }: Checkpoint, to: string): Promise<number> {
  await mkdir(to, { recursive: true });
  const start = performance.now();
  for (const file of files) await copyFile(join(folder, file), join(to, file));
  const taken = performance.now() - start;
  await rm(to, { recursive: true });
  return taken;
}

/** @throws Error with what the command said, where it fails */
async function converted(
  { folder }: Checkpoint,
  out: string,
  recipe: keyof typeof BARS,
): Promise<Taken> {
  await rm(out, { recursive: true, force: true });
  const start = performance.now();
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', converter, folder, '--out', out, '--recipe', recipe, '--no-known-answer'],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  let peakBytes = 0;
  let isRunning = true;
  const watch = async () => {
    while (isRunning) {
      peakBytes = Math.max(peakBytes, await peakOf(child.pid));
      await after(100);
    }
  };
  const watching = watch();
  const [code] = (await once(child, 'exit')) as [number | null];
  const milliseconds = performance.now() - start;
  isRunning = false;
  await watching;
  await rm(out, { recursive: true, force: true });
  if (code !== 0) throw new Error(`convert ended with ${code}: ${said.slice(-2000)}`);
  return { milliseconds, peakBytes };
}

/** What Linux says of a process's largest resident memory; 0 where it has ended or elsewhere. */
async function peakOf(pid: number | undefined): Promise<number> {
  const text = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return 1024 * Number(/^VmHWM:\s*(\d+)/m.exec(text)?.[1] ?? 0);
}
