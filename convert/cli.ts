import { writeFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import pc from 'picocolors';
import { Failure, failureName } from '../src/failure.ts';
import { MAX_SHARD_BYTES, type AdapterInfo, type Manifest } from '../src/format/manifest.ts';
import {
  addDiff,
  addEstimate,
  addKnownAnswer,
  addMergeExpert,
  addSign,
  examples,
} from './cli-tools.ts';
import { addCompareRecipes } from './cli-recipes.ts';
import { packageQuality, qualityLine } from './compare.ts';
import { convert } from './convert.ts';
import { errorCode } from './files.ts';
import { gatesHeatmap, gatesPng } from './heatmap.ts';
import { inspect } from './inspect.ts';
import { ONNX_FILE, writeOnnx } from './onnx/write.ts';
import { Progress } from './progress.ts';
import { readManifest } from './reader.ts';
import { readRecipe } from './recipe.ts';
import { reportLines, type RoundingReport } from './rounding-report.ts';
import { checkSignature } from './sign.ts';
import { verify } from './verify.ts';

/** More threads than that only wait for the disk. */
const MAX_THREADS = 64;

/** How gates are drawn, by the end of a file's name. */
const PICTURES: Readonly<Record<string, (adapter: AdapterInfo) => string | Uint8Array | null>> = {
  '.svg': gatesHeatmap,
  '.png': gatesPng,
};

/** The command line, apart from the process it runs in. */

export interface Terminal {
  /** Writes a text to standard output, ends of lines included. */
  readonly out: (text: string) => void;
  readonly error: (text: string) => void;
  readonly signal: AbortSignal;
}

interface PackageFlags {
  readonly out: string;
  readonly adapter?: string;
  readonly shardBytes: number;
  readonly onnx: boolean;
  readonly knownAnswer: boolean;
  readonly recipe?: string;
  readonly threads?: number;
  readonly report?: string;
  readonly text?: string;
}

interface VerifyFlags {
  readonly recompute: boolean;
  readonly publicKey?: string;
}

/**
 * Runs one command.
 * @returns exit code: 0 done, 1 an expected failure or a finding of verify, 2 usage, 130 interrupted
 * @throws whatever is a bug
 */
export async function runCommand(args: readonly string[], terminal: Terminal): Promise<number> {
  const progress = new Progress();
  let code = 0;
  const program = new Command('convert')
    .description('Turns a checkpoint into a model package for the browser, and looks at packages.')
    .configureOutput({ writeOut: terminal.out, writeErr: terminal.error })
    .exitOverride();
  addPackage(program, terminal, progress);
  addVerify(program, terminal, progress, () => (code = 1));
  addInspect(program, terminal);
  addDiff(program, terminal, progress, () => (code = 1));
  addSign(program, terminal);
  addKnownAnswer(program, terminal, progress);
  addMergeExpert(program, terminal, progress, shardBytes);
  addEstimate(program, terminal);
  addCompareRecipes(program, terminal, progress);
  addOnnx(program, terminal);
  try {
    await program.parseAsync(args, { from: 'user' });
    return code;
  } catch (error) {
    progress.end();
    const outcome = outcomeOf(error);
    if (outcome.message !== null) terminal.error(pc.red(outcome.message) + '\n');
    return outcome.code;
  }
}

function addPackage(program: Command, terminal: Terminal, progress: Progress): void {
  program
    .command('package', { isDefault: true })
    .description('write the package of a checkpoint (the default command)')
    .argument(
      '<checkpoint>',
      'folder with config.json, weights, tokenizer.json ...; or a GGUF file',
    )
    .requiredOption('--out <folder>', 'where the package goes; an older package there is replaced')
    .option('--adapter <folder>', 'MoE-Adapter or LoRA: adapter_config.json, adapter_model ...')
    .option('--shard-bytes <number>', 'largest size of a shard', shardBytes, MAX_SHARD_BYTES)
    .option('--onnx', 'also write model.onnx, as `convert onnx` does', false)
    .option('--recipe <recipe>', 'how weights are rounded: default, naive, or a file in .json')
    .option('--threads <number>', 'threads that write files; else one for each core', threadCount)
    .option('--report <file>', 'write what rounding did to tensors and to answers, as JSON')
    .option('--text <file>', 'held-out text for the report, a paragraph in each line; else ours')
    .option('--no-known-answer', 'leave known answers to `convert known-answer`')
    .action(async (checkpoint: string, options: PackageFlags) => {
      let report: RoundingReport = { tensors: [], classes: [] };
      const manifest = await convert({
        checkpoint,
        adapter: options.adapter ?? null,
        out: options.out,
        shardBytes: options.shardBytes,
        onnx: options.onnx,
        knownAnswer: options.knownAnswer,
        ...(options.recipe === undefined ? {} : { recipe: await readRecipe(options.recipe) }),
        ...(options.threads === undefined ? {} : { threads: options.threads }),
        signal: terminal.signal,
        onReport: (made) => (report = made),
        onProgress: progress.show,
      });
      progress.end();
      terminal.out([...summary(manifest, options), ...reportLines(report)].join('\n') + '\n');
      if (options.report === undefined) return;
      const quality = await packageQuality({
        checkpoint,
        package: options.out,
        text: options.text ?? null,
        signal: terminal.signal,
        onProgress: progress.show,
      });
      progress.end();
      const { recipe } = manifest.provenance;
      const whole = { recipe: recipe ?? null, quality, ...report };
      await writeFile(options.report, `${JSON.stringify(whole, null, 1)}\n`);
      terminal.out(`${qualityLine(quality)}\n${pc.green('wrote')} ${options.report}\n`);
    })
    .addHelpText(
      'after',
      examples(
        'run/checkpoint --adapter run/adapter --out public/models/nano',
        'Baichuan2-7B-Base --adapter MoE-Adapter --out .cache/baichuan2-7b',
        'qwen3-1.7b-q8_0.gguf --out .cache/qwen3',
        'Qwen2.5-0.5B --out .cache/qwen2 --recipe mine.json --report report.json',
      ),
    );
}

function addVerify(
  program: Command,
  terminal: Terminal,
  progress: Progress,
  onWrong: () => void,
): void {
  program
    .command('verify')
    .description('check every hash, offset and number of a package')
    .argument('<package>', 'folder with manifest.json')
    .option('--recompute', 'compute the known answers again and compare them', false)
    .option('--public-key <file>', 'the signature has to be by this key (PEM)')
    .action(async (folder: string, { recompute, publicKey }: VerifyFlags) => {
      const findings = [...(await verify(folder, { recompute, onProgress: progress.show }))];
      progress.end();
      if (publicKey !== undefined) findings.push(await checkSignature(folder, publicKey));
      for (const { ok, what } of findings) {
        terminal.out(`${ok ? pc.green('ok ') : pc.red('BAD')} ${what}\n`);
      }
      const wrong = findings.filter(({ ok }) => !ok).length;
      terminal.out(`${folder}: ${wrong === 0 ? 'whole' : pc.red(`${wrong} things are wrong`)}\n`);
      if (wrong > 0) onWrong();
    })
    .addHelpText(
      'after',
      examples('verify public/models/nano --recompute', 'verify nano --public-key public.pem'),
    );
}

function addInspect(program: Command, terminal: Terminal): void {
  program
    .command('inspect')
    .description('print what a package is')
    .argument('<package>', 'folder with manifest.json')
    .option('--gates <file>', 'also draw the gates of its adapter: a file in .svg or .png')
    .action(async (folder: string, { gates }: { gates?: string }) => {
      const manifest = await readManifest(folder);
      terminal.out(inspect(manifest).join('\n') + '\n');
      if (gates === undefined) return;
      const draw = PICTURES[extname(gates).toLowerCase()];
      if (draw === undefined) throw new Failure('Usage', `${gates}: a file in .svg or .png`);
      const picture = manifest.adapter === null ? null : draw(manifest.adapter);
      if (picture === null) {
        throw new Failure('Usage', `${folder}: no gates: it has no merged adapter`);
      }
      await writeFile(gates, picture);
      terminal.out(`${pc.green('wrote')} ${gates}\n`);
    })
    .addHelpText(
      'after',
      examples('inspect public/models/nano', 'inspect public/models/nano --gates gates.svg'),
    );
}

function addOnnx(program: Command, terminal: Terminal): void {
  program
    .command('onnx')
    .description('write model.onnx beside the shards, which it takes its weights from')
    .argument('<package>', 'folder with manifest.json')
    .option('--int8-activations', 'let ONNX Runtime round activations to 8 bits', false)
    .action(async (folder: string, { int8Activations }: { int8Activations: boolean }) => {
      const bytes = await writeOnnx(folder, int8Activations ? 4 : 0);
      const size = `${(bytes / 1e3).toFixed(1)} kB`;
      terminal.out(`${pc.green('wrote')} ${join(folder, ONNX_FILE)}: ${size}\n`);
    });
}

function shardBytes(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 1 && value <= MAX_SHARD_BYTES) return value;
  throw new InvalidArgumentError(`a whole number from 1 to ${MAX_SHARD_BYTES}`);
}

function threadCount(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 1 && value <= MAX_THREADS) return value;
  throw new InvalidArgumentError(`a whole number from 1 to ${MAX_THREADS}`);
}

function summary(manifest: Manifest, { out, knownAnswer: wanted }: PackageFlags): string[] {
  const { files, adapter, knownAnswer, quantization } = manifest;
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  const lines = [
    `${pc.green('wrote')} ${out}: ${files.length} files, ${(bytes / 1e6).toFixed(2)} MB`,
  ];
  lines.push(`quantized by ${quantization.origin}`);
  if (adapter?.router === 'absent' && adapter.experts > 2) lines.push(pc.yellow(noRouter(adapter)));
  if (knownAnswer === null) {
    const why = wanted
      ? 'pediatricsgpt.json names no known_answer_prompts'
      : 'compute them with `convert known-answer`';
    lines.push(pc.yellow(`no known answers: ${why}`));
  }
  return lines;
}

/** With one specific expert, as plain LoRA has, a gate is 1 whatever a router says. */
function noRouter({ experts }: AdapterInfo): string {
  const specific = experts - 1;
  return (
    'the adapter has no router and no task_gates.json (the published code does not save its ' +
    `router): each of the ${specific} specific experts counts 1/${specific} in every task and at ` +
    'every token, so tasks differ in their prompts only, and answers from those of the model ' +
    'as it was trained'
  );
}

/** What to tell about a failed run, and its exit code. Bugs are thrown on, with their stack. */
function outcomeOf(error: unknown): { code: number; message: string | null } {
  if (error instanceof CommanderError) {
    return { code: error.exitCode === 0 ? 0 : 2, message: null };
  }
  const name = failureName(error);
  const message = error instanceof Error ? error.message : '';
  if (name === 'Cancelled') {
    return { code: 130, message: 'interrupted; run the same command again to go on' };
  }
  if (name === 'Usage') return { code: 2, message };
  if (name !== 'Bug') return { code: 1, message: `${name}: ${message}` };
  const reasons: Readonly<Record<string, string>> = {
    ENOSPC: 'the disk is full',
    EACCES: 'no permission',
    EPERM: 'no permission',
    EROFS: 'the disk is read-only',
  };
  const reason = reasons[errorCode(error) ?? ''];
  if (reason !== undefined) return { code: 1, message: `${reason} (${message})` };
  throw error;
}
