import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { MOST_ALTERNATIVES } from '../engine/logprobs.ts';
import type { CacheType } from '../gpu/prelude.ts';
import { Failure } from '../failure.ts';
import type { BackendChoice, OutputFormat, SamplingSettings } from '../worker/api.ts';

export interface AskOptions {
  /** Null asks for a chat. */
  readonly question: string | null;
  /** Null is the first task of the package. */
  readonly task: string | null;
  readonly package: string;
  readonly greedy: boolean;
  readonly temperature: number | null;
  readonly minP: number | null;
  readonly presencePenalty: number | null;
  /** What the answer has to look like; null for anything. */
  readonly format: OutputFormat | null;
  /** How many likeliest tokens to print beside every token; null for no log-probabilities. */
  readonly logprobs: number | null;
  readonly maxTokens: number | null;
  readonly seed: number | null;
  readonly routed: boolean;
  /** What computes: the GPU, or else ONNX Runtime on the CPU. */
  readonly backend: BackendChoice;
  readonly variant: 'auto' | 'f32' | 'f16';
  readonly cache: CacheType;
  readonly int8: boolean;
  readonly json: boolean;
  /** Whether kernels are chosen by measurement, once for every GPU and model. */
  readonly calibrate: boolean;
}

const DEFAULT_PACKAGE = fileURLToPath(new URL('../../public/models/nano', import.meta.url));
const LARGEST_SEED = 2 ** 32 - 1;

/** A reader of a number for an option. */
function number(what: string, good: (value: number) => boolean): (text: string) => number {
  return (text) => {
    const value = text.trim() === '' ? NaN : Number(text);
    if (!good(value)) throw new InvalidArgumentError(`It has to be ${what}.`);
    return value;
  };
}

const count = number('a whole number of at least 1', (n) => Number.isSafeInteger(n) && n >= 1);
const seed = number(
  `a whole number from 0 to ${LARGEST_SEED}`,
  (n) => Number.isInteger(n) && n >= 0 && n <= LARGEST_SEED,
);
const share = number('a number from 0 to 1', (n) => n >= 0 && n <= 1);
const penalty = number('a number from -2 to 2', (n) => n >= -2 && n <= 2);
const alternatives = number(
  `a whole number from 0 to ${MOST_ALTERNATIVES}`,
  (n) => Number.isInteger(n) && n >= 0 && n <= MOST_ALTERNATIVES,
);
const temperature = number('a number from 0 to 10', (n) => n >= 0 && n <= 10);

const regex = (pattern: string): OutputFormat => ({ kind: 'regex', pattern });

/** A JSON schema from a file. */
function schemaIn(path: string): OutputFormat {
  let schema: unknown;
  try {
    schema = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    throw new InvalidArgumentError(`It has to be a file with a JSON schema: ${what}`);
  }
  if (typeof schema !== 'object' || schema === null || Array.isArray(schema)) {
    throw new InvalidArgumentError('A JSON schema is an object.');
  }
  return { kind: 'json', schema: schema as Record<string, unknown> };
}

function command(): Command {
  return new Command('ask')
    .description('Ask the model from the command line. Without a question: a chat.')
    .argument('[question...]', 'what to ask')
    .option('--task <name>', 'task of the package, for example medkqa (default: its first)')
    .option('--package <dir>', 'folder of the model package', DEFAULT_PACKAGE)
    .option('--greedy', 'always the likeliest token, without repetition penalty', false)
    .addOption(
      new Option('--temperature <t>', 'sampling temperature, 0 is the likeliest token')
        .argParser(temperature)
        .conflicts('greedy'),
    )
    .addOption(
      new Option(
        '--min-p <share>',
        'leave out what is less likely than this share of the likeliest',
      )
        .argParser(share)
        .conflicts('greedy'),
    )
    .addOption(
      new Option('--presence-penalty <p>', 'taken off the logit of what was said before')
        .argParser(penalty)
        .conflicts('greedy'),
    )
    .addOption(
      new Option('--schema <file>', 'the answer is JSON that follows the JSON schema in this file')
        .argParser(schemaIn)
        .conflicts('regex'),
    )
    .option('--regex <pattern>', 'the answer matches this regular expression as a whole')
    .option(
      '--logprobs <n>',
      'with --json: how likely every token and the n likeliest were',
      alternatives,
    )
    .option('--max-tokens <n>', 'longest answer', count)
    .option('--seed <n>', 'makes a sampled answer repeatable', seed)
    .option('--routed', "use the package's per-token router", false)
    .addOption(
      new Option('--backend <name>', 'what computes; auto is the CPU where there is no GPU driver')
        .choices(['auto', 'webgpu', 'cpu'])
        .default('auto'),
    )
    .addOption(
      new Option('--variant <type>', 'what activations are stored in')
        .choices(['auto', 'f32', 'f16'])
        .default('auto'),
    )
    .addOption(
      new Option('--cache <type>', 'what keys and values are kept in: as activations, or 8 bits')
        .choices(['elem', 'int8'])
        .default('elem'),
    )
    .option('--int8', 'let activations be 8-bit integers where that measures faster', false)
    .option('--no-calibrate', 'take the usual kernels instead of measuring which are fastest here')
    .option('--json', 'print one JSON object instead of streaming', false)
    .exitOverride()
    .configureOutput({ outputError: () => undefined });
}

/** What commander makes of the options above. */
interface Parsed {
  task?: string;
  package: string;
  greedy: boolean;
  temperature?: number;
  minP?: number;
  presencePenalty?: number;
  schema?: OutputFormat;
  regex?: string;
  logprobs?: number;
  maxTokens?: number;
  seed?: number;
  routed: boolean;
  backend: BackendChoice;
  variant: AskOptions['variant'];
  cache: CacheType;
  int8: boolean;
  json: boolean;
  calibrate: boolean;
}

/**
 * Reads a command line (without the program's own name).
 * @returns null where only help was asked for, which is then printed
 * @throws Failure Usage
 */
export function parseOptions(args: readonly string[]): AskOptions | null {
  const program = command();
  try {
    program.parse([...args], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return null;
    throw new Failure('Usage', error.message.replace(/^error: /, ''), { cause: error });
  }
  const parsed = program.opts<Parsed>();
  const question = program.args.length === 0 ? null : program.args.join(' ');
  if (parsed.json && question === null) throw new Failure('Usage', '--json needs a question');
  if (parsed.logprobs !== undefined && !parsed.json) {
    throw new Failure('Usage', '--logprobs needs --json');
  }
  const { backend, variant, cache, int8 } = parsed;
  if (backend === 'cpu' && (variant !== 'auto' || cache !== 'elem' || int8)) {
    throw new Failure('Usage', '--variant, --cache and --int8 are for the GPU');
  }
  return {
    question,
    task: parsed.task ?? null,
    package: parsed.package,
    greedy: parsed.greedy,
    temperature: parsed.temperature ?? null,
    minP: parsed.minP ?? null,
    presencePenalty: parsed.presencePenalty ?? null,
    format: parsed.schema ?? (parsed.regex === undefined ? null : regex(parsed.regex)),
    logprobs: parsed.logprobs ?? null,
    maxTokens: parsed.maxTokens ?? null,
    seed: parsed.seed ?? null,
    routed: parsed.routed,
    backend,
    variant,
    cache,
    int8,
    json: parsed.json,
    calibrate: parsed.calibrate,
  };
}

/** The package's own sampling with what the command line changes. */
export function samplingOf(options: AskOptions, defaults: SamplingSettings): SamplingSettings {
  const base = options.greedy
    ? { ...defaults, temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1 }
    : {
        ...defaults,
        temperature: options.temperature ?? defaults.temperature,
        ...(options.minP === null ? {} : { minP: options.minP }),
        ...(options.presencePenalty === null ? {} : { presencePenalty: options.presencePenalty }),
      };
  return { ...base, maxTokens: options.maxTokens ?? defaults.maxTokens };
}

/** @throws Failure UnknownTask that lists the tasks there are */
export function checkTask(task: string, tasks: readonly string[]): void {
  if (tasks.includes(task)) return;
  throw new Failure('UnknownTask', `${task}; the tasks here are ${tasks.join(', ')}`);
}
