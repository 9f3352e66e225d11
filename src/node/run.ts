import { randomInt } from 'node:crypto';
import { Failure } from '../failure.ts';
import type { LoadProgress } from '../worker/api.ts';
import { chat } from './chat.ts';
import type { Host } from './host.ts';
import { Interrupts, INTERRUPTED } from './interrupts.ts';
import { parseOptions, type AskOptions } from './options.ts';
import { dangerBanner, exitCode, failureLine, notice, statistics } from './words.ts';

/** The `ask` command. @returns its exit status */
export async function run(args: readonly string[]): Promise<number> {
  try {
    const options = parseOptions(args);
    return options === null ? 0 : await ask(options);
  } catch (error) {
    note(failureLine(error));
    return exitCode(error);
  }
}

async function ask(options: AskOptions): Promise<number> {
  if (options.question?.trim() === '') throw new Failure('EmptyPrompt', 'it has no words');
  note(notice());
  // The warning does not wait for a model.
  const banner = dangerBanner(options.question ?? '');
  if (banner !== '') note(banner);
  const { Host } = await import('./host.ts'); // shaders and all: not for a mere question of usage
  const host = await Host.open(options, process.stderr.isTTY ? showProgress : () => undefined);
  const nextSeed = (): number => options.seed ?? randomInt(2 ** 32);
  try {
    const { question } = options;
    if (question !== null) return await answerOnce(host, options, question, nextSeed());
    const { stdin: input, stdout: output, stderr: notes } = process;
    return await chat(host, { input, output, notes, terminal: Boolean(input.isTTY) }, nextSeed);
  } finally {
    host.close();
  }
}

async function answerOnce(
  host: Host,
  { json }: AskOptions,
  question: string,
  seed: number,
): Promise<number> {
  const task = host.firstTask;
  const interrupts = new Interrupts(() => process.exit(INTERRUPTED));
  process.on('SIGINT', interrupts.press);
  const say = (text: string): void => void (json || process.stdout.write(text));
  const turns = [{ role: 'user', text: question }] as const;
  const result = await interrupts.during((signal) => host.answer(task, turns, seed, say, signal));
  process.stdout.write(json ? `${JSON.stringify(summary())}\n` : '\n');
  note(statistics(result, host.info, seed));
  return result.finish === 'cancelled' ? INTERRUPTED : 0;

  function summary(): Record<string, unknown> {
    const { text, tokens, promptTokens, outputTokens } = result;
    const { prefillTokensPerSecond, decodeTokensPerSecond } = result;
    const { backend, variant, adapter } = host.info;
    return {
      task,
      text,
      tokens,
      promptTokens,
      outputTokens,
      prefillTokensPerSecond,
      decodeTokensPerSecond,
      backend,
      variant,
      adapter,
      ...(result.logprobs === undefined ? {} : { logprobs: result.logprobs }),
    };
  }
}

/** One line on a terminal that is written over, and gone when the model is there. */
function showProgress({ phase, bytesDone, bytesTotal }: LoadProgress): void {
  const share = bytesTotal === 0 ? '' : ` ${Math.floor((100 * bytesDone) / bytesTotal)}%`;
  const text = phase === 'self-test' ? '' : `加载 / loading ${phase}${share}`;
  process.stderr.write(`\r\u001b[K${text}`);
}

function note(text: string): void {
  process.stderr.write(`${text}\n`);
}
