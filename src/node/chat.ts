import { createInterface } from 'node:readline/promises';
import pc from 'picocolors';
import { failureName } from '../failure.ts';
import type { GenerateResult, ModelInfo, Turn } from '../worker/api.ts';
import { Interrupts, INTERRUPTED } from './interrupts.ts';
import { checkTask } from './options.ts';
import { dangerBanner, failureLine, statistics } from './words.ts';

/** What a chat needs of a loaded model. */
export interface ChatHost {
  readonly info: Pick<ModelInfo, 'backend' | 'variant' | 'adapter' | 'tasks'>;
  readonly firstTask: string;
  answer(
    task: string,
    turns: readonly Turn[],
    seed: number,
    onPiece: (text: string) => void,
    signal: AbortSignal,
  ): Promise<GenerateResult>;
}

/** Where a chat takes place: a terminal, a pipe, a test. */
export interface ChatPlace {
  readonly input: NodeJS.ReadableStream;
  /** Answers go here. */
  readonly output: NodeJS.WritableStream;
  /** Everything else goes here. */
  readonly notes: NodeJS.WritableStream;
  readonly terminal: boolean;
}

const COMMANDS =
  'clear 清空对话 new conversation · task NAME 换任务 change task · exit 退出 leave · ' +
  'Ctrl-C 停止回答 stop the answer';

/**
 * A chat, one line per question, until `exit`, the end of the input, or Ctrl-C without an answer.
 * @returns the exit status: 1 where an answer failed and nobody was there to see it
 */
export async function chat(
  host: ChatHost,
  place: ChatPlace,
  nextSeed: () => number,
): Promise<number> {
  const talk = new Talk(host, place, nextSeed);
  return talk.run();
}

class Talk {
  readonly #host: ChatHost;
  readonly #place: ChatPlace;
  readonly #nextSeed: () => number;
  #task: string;
  #turns: Turn[] = [];
  #failed = false;
  #left = false;

  constructor(host: ChatHost, place: ChatPlace, nextSeed: () => number) {
    this.#host = host;
    this.#place = place;
    this.#nextSeed = nextSeed;
    this.#task = host.firstTask;
  }

  async run(): Promise<number> {
    const { input, notes, terminal } = this.#place;
    const lines = createInterface({ input, output: notes, terminal });
    const interrupts = new Interrupts(() => {
      this.#left = true;
      lines.close();
    });
    lines.on('SIGINT', interrupts.press);
    if (!terminal) process.on('SIGINT', interrupts.press);
    this.#note(pc.dim(COMMANDS));
    const prompt = (): void => {
      lines.setPrompt(pc.bold(`${this.#task}> `));
      if (terminal) lines.prompt();
    };
    try {
      prompt();
      for await (const line of lines) {
        if (!(await this.#take(line.trim(), interrupts)) || this.#left) break;
        prompt();
      }
    } finally {
      lines.close();
      process.off('SIGINT', interrupts.press);
    }
    if (this.#left) return INTERRUPTED;
    return this.#failed && !terminal ? 1 : 0;
  }

  /** One line of input. @returns false where the chat is over */
  async #take(line: string, interrupts: Interrupts): Promise<boolean> {
    if (line === '') return true;
    if (line === 'exit') return false;
    const [word, name, ...rest] = line.split(/\s+/);
    try {
      if (line === 'clear') {
        this.#turns = [];
        this.#note(pc.dim('已清空 / cleared'));
      } else if (word === 'task' && rest.length === 0) this.#changeTask(name ?? '');
      else await interrupts.during((signal) => this.#answer(line, signal));
    } catch (error) {
      this.#failed = true;
      this.#note(failureLine(error));
      if (failureName(error) === 'DeviceLost' || failureName(error) === 'Bug') return false;
    }
    return true;
  }

  #changeTask(name: string): void {
    const tasks = this.#host.info.tasks.map(({ id }) => id);
    if (name === '') {
      this.#note(tasks.join(', '));
      return;
    }
    checkTask(name, tasks);
    this.#task = name;
    this.#note(pc.dim(`任务 / task: ${name}`));
  }

  async #answer(question: string, signal: AbortSignal): Promise<void> {
    const banner = dangerBanner(question);
    if (banner !== '') this.#note(banner);
    const { output } = this.#place;
    const turns: Turn[] = [...this.#turns, { role: 'user', text: question }];
    const seed = this.#nextSeed();
    const say = (text: string): void => void output.write(text);
    const result = await this.#host.answer(this.#task, turns, seed, say, signal);
    output.write('\n');
    this.#note(statistics(result, this.#host.info, seed));
    // An answer that was stopped before its first word leaves no trace.
    if (result.text !== '') this.#turns = [...turns, { role: 'assistant', text: result.text }];
  }

  #note(text: string): void {
    this.#place.notes.write(`${text}\n`);
  }
}
