import type { Command } from 'commander';
import pc from 'picocolors';
import { MAX_SHARD_BYTES } from '../src/format/manifest.ts';
import { SIGNATURE_FILE } from '../src/format/signature.ts';
import { answerPackage } from './answer-package.ts';
import type { Terminal } from './cli.ts';
import { diff } from './diff.ts';
import { estimate, estimateLines } from './estimate.ts';
import { mergeExpert } from './merge-expert.ts';
import type { Progress } from './progress.ts';
import { signPackage } from './sign.ts';

/** Commands for packages that are there, and for checkpoints that are not converted yet. */

/** Text under the help of a command. */
export function examples(...lines: readonly string[]): string {
  return `\nExamples:\n${lines.map((line) => `  npm run convert -- ${line}`).join('\n')}\n`;
}

export function addDiff(
  program: Command,
  terminal: Terminal,
  progress: Progress,
  onDifference: () => void,
): void {
  program
    .command('diff')
    .description('say what is different in two packages; ends with 1 where something is')
    .argument('<first>', 'folder with manifest.json')
    .argument('<second>', 'another one')
    .action(async (first: string, second: string) => {
      const lines = await diff(first, second, progress.show);
      progress.end();
      terminal.out(lines.length === 0 ? 'no difference\n' : `${lines.join('\n')}\n`);
      if (lines.length > 0) onDifference();
    })
    .addHelpText('after', examples('diff public/models/nano .cache/nano-new'));
}

export function addSign(program: Command, terminal: Terminal): void {
  program
    .command('sign')
    .description(`write ${SIGNATURE_FILE}: an Ed25519 signature over the bytes of manifest.json`)
    .argument('<package>', 'folder with manifest.json')
    .requiredOption('--key <file>', 'private key in PEM, without a password')
    .action(async (folder: string, { key }: { key: string }) => {
      const { fingerprint, publicKey } = await signPackage(folder, key);
      terminal.out(`${pc.green('signed')} ${folder} with key ${fingerprint}\n`);
      terminal.out(`a build of the app that wants it: VITE_PACKAGE_KEY=${publicKey}\n`);
    })
    .addHelpText(
      'after',
      '\nA key pair:\n  openssl genpkey -algorithm ed25519 -out private.pem\n' +
        '  openssl pkey -in private.pem -pubout -out public.pem\n' +
        examples(
          'sign public/models/nano --key private.pem',
          'verify public/models/nano --public-key public.pem',
        ),
    );
}

export function addKnownAnswer(program: Command, terminal: Terminal, progress: Progress): void {
  program
    .command('known-answer')
    .description(
      'compute the known answers from the shards, layer by layer; goes on if interrupted',
    )
    .argument('<package>', 'folder with manifest.json')
    .option('--checkpoint <folder>', 'its pediatricsgpt.json has the prompts', undefined)
    .action(async (folder: string, { checkpoint }: { checkpoint?: string }) => {
      const changed = await answerPackage({
        package: folder,
        checkpoint: checkpoint ?? null,
        signal: terminal.signal,
        onProgress: progress.show,
      });
      progress.end();
      const what = changed ? pc.green('wrote known answers') : 'the known answers were the same';
      terminal.out(`${what}: ${folder}\n`);
    })
    .addHelpText(
      'after',
      examples(
        'known-answer .cache/baichuan2-13b --checkpoint Baichuan2-13B-Base',
        'known-answer public/models/nano',
      ),
    );
}

interface MergeFlags {
  readonly adapter: string;
  readonly out: string;
  readonly shardBytes: number;
}

export function addMergeExpert(
  program: Command,
  terminal: Terminal,
  progress: Progress,
  shardBytes: (text: string) => number,
): void {
  program
    .command('merge-expert')
    .description('write a package with another adapter; the files of its base stay as they are')
    .argument('<package>', 'folder with manifest.json')
    .requiredOption('--adapter <folder>', 'adapter_config.json, adapter_model.safetensors ...')
    .requiredOption('--out <folder>', 'where the package goes; may be the package itself')
    .option('--shard-bytes <number>', 'largest size of a shard', shardBytes, MAX_SHARD_BYTES)
    .action(async (folder: string, options: MergeFlags) => {
      const { files } = await mergeExpert({
        ...options,
        package: folder,
        signal: terminal.signal,
        onProgress: progress.show,
      });
      progress.end();
      const own = files.filter(({ name }) => name.startsWith('adapter-'));
      const bytes = own.reduce((sum, file) => sum + file.bytes, 0);
      const size = `${own.length} of ${files.length} files are new, ${(bytes / 1e6).toFixed(2)} MB`;
      terminal.out(`${pc.green('wrote')} ${options.out}: ${size}\n`);
    })
    .addHelpText(
      'after',
      examples('merge-expert public/models/nano --adapter run/adapter --out .cache/nano-new'),
    );
}

interface EstimateFlags {
  readonly adapter?: string;
  readonly tasks: string;
}

export function addEstimate(program: Command, terminal: Terminal): void {
  program
    .command('estimate')
    .description('say what a package will need, from config.json or a GGUF file alone')
    .argument('<checkpoint>', 'folder with config.json, or a GGUF file')
    .option('--adapter <folder>', 'folder with adapter_config.json')
    .option('--tasks <number>', 'tasks that will have known answers', '3')
    .action(async (checkpoint: string, { adapter, tasks }: EstimateFlags) => {
      const count = /^\d{1,4}$/.test(tasks) ? Number(tasks) : NaN;
      if (Number.isNaN(count)) program.error(`error: --tasks ${tasks}: a whole number is needed`);
      const found = await estimate(checkpoint, adapter ?? null, count);
      terminal.out(`${estimateLines(found).join('\n')}\n`);
    })
    .addHelpText(
      'after',
      examples('estimate Baichuan2-7B-Base', 'estimate qwen3-1.7b-q8_0.gguf --tasks 0'),
    );
}
