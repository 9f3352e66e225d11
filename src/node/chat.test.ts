import { PassThrough } from 'node:stream';
import { describe, expect, it, vi } from 'vitest';
import { Failure } from '../failure.ts';
import type { GenerateResult, Turn } from '../worker/api.ts';
import { chat, type ChatHost } from './chat.ts';
import { Interrupts } from './interrupts.ts';
import { exitCode, failureLine } from './words.ts';

const result = (text: string): GenerateResult => ({
  text,
  tokens: [1, 2],
  promptTokens: 9,
  droppedQuestions: 0,
  reusedTokens: 0,
  outputTokens: 2,
  prefillTokensPerSecond: 10,
  decodeTokensPerSecond: 5,
  taskSwitchMs: 0,
  ran: { backend: 'wgsl', variant: 'f32', adapter: 'test' },
  recoveries: [],
  finish: 'stop',
});

/** Answers every question with its own words, and remembers what it was asked. */
function setup(answer: (turns: readonly Turn[]) => string = (turns) => `<${turns.at(-1)?.text}>`) {
  const asked: { task: string; turns: readonly Turn[]; seed: number }[] = [];
  const title = { zh: '', en: '' };
  const host: ChatHost = {
    info: {
      backend: 'wgsl',
      variant: 'f32',
      adapter: 'script',
      tasks: ['medkqa', 'evidiag'].map((id) => ({ id, title })),
    },
    firstTask: 'medkqa',
    answer(task, turns, seed, onPiece) {
      asked.push({ task, turns, seed });
      try {
        const text = answer(turns);
        for (const character of text) onPiece(character);
        return Promise.resolve(result(text));
      } catch (error) {
        return Promise.reject(error instanceof Error ? error : new Error(String(error)));
      }
    },
  };
  return { host, asked };
}

/** A chat whose input is piped in. */
async function talk(host: ChatHost, ...lines: string[]) {
  const input = new PassThrough();
  const output = new PassThrough();
  const notes = new PassThrough();
  input.end(lines.map((line) => `${line}\n`).join(''));
  let seed = 0;
  const status = await chat(host, { input, output, notes, terminal: false }, () => ++seed);
  const all = (stream: PassThrough): string => String(stream.read() ?? '');
  return { status, output: all(output), notes: all(notes) };
}

describe('a chat', () => {
  it('answers line by line and keeps the conversation', async () => {
    const { host, asked } = setup();
    const { status, output } = await talk(host, '宝宝发烧', '', '还有呢');
    expect(output).toBe('<宝宝发烧>\n<还有呢>\n');
    expect(status).toBe(0);
    expect(asked.map(({ turns }) => turns.map(({ text }) => text))).toEqual([
      ['宝宝发烧'],
      ['宝宝发烧', '<宝宝发烧>', '还有呢'],
    ]);
    expect(asked.map(({ seed }) => seed)).toEqual([1, 2]);
  });

  it('forgets at clear, changes at task, and leaves at exit', async () => {
    const { host, asked } = setup();
    const { output, notes } = await talk(host, '一', 'clear', 'task evidiag', '二', 'exit', '三');
    expect(output).toBe('<一>\n<二>\n');
    expect(asked.map(({ task, turns }) => [task, turns.length])).toEqual([
      ['medkqa', 1],
      ['evidiag', 1],
    ]);
    expect(notes).toMatch(/task: evidiag/);
  });

  it('lists the tasks where one is unknown or none is named', async () => {
    const { host, asked } = setup();
    const { notes, status } = await talk(host, 'task', 'task surgery', '问');
    expect(notes).toMatch(/^medkqa, evidiag$/m);
    expect(notes).toMatch(/the tasks here are medkqa, evidiag/);
    expect(asked[0]?.task).toBe('medkqa');
    expect(status).toBe(1);
  });

  it('says what failed and goes on, without the question that failed', async () => {
    const { host, asked } = setup((turns) => {
      if (turns.at(-1)?.text === '长') throw new Failure('PromptTooLong', '999 tokens');
      return '好';
    });
    const { status, notes, output } = await talk(host, '长', '短');
    expect(notes).toMatch(/too long for the model: 999 tokens/);
    expect(output).toBe('好\n');
    expect(asked[1]?.turns).toHaveLength(1);
    expect(status).toBe(1);
  });

  it('ends where the GPU is gone', async () => {
    const { host, asked } = setup(() => {
      throw new Failure('DeviceLost', 'unplugged');
    });
    expect((await talk(host, '一', '二')).status).toBe(1);
    expect(asked).toHaveLength(1);
  });

  it('raises the emergency banner for a danger sign, and not without one', async () => {
    const { host } = setup();
    expect((await talk(host, '宝宝抽搐了，叫不醒')).notes).toMatch(/120/);
    expect((await talk(host, '宝宝辅食怎么添加')).notes).not.toMatch(/120/);
  });

  it('leaves no trace of an answer without words', async () => {
    const { host, asked } = setup(() => '');
    await talk(host, '一', '二');
    expect(asked[1]?.turns).toHaveLength(1);
  });
});

describe('Ctrl-C', () => {
  it('stops the running answer first and leaves the second time', async () => {
    let clockMs = 1000;
    const now = vi.spyOn(performance, 'now').mockImplementation(() => clockMs);
    let left = 0;
    const interrupts = new Interrupts(() => (left += 1));
    await interrupts.during((signal) => {
      interrupts.press();
      expect([signal.aborted, left]).toEqual([true, 0]);
      clockMs += 5;
      interrupts.press(); // the same press, handed on by another process
      expect(left).toBe(0);
      clockMs += 1000;
      interrupts.press();
      expect(left).toBe(1);
      return Promise.resolve();
    });
    interrupts.press();
    expect(left).toBe(2);
    now.mockRestore();
  });
});

describe('what a failure says', () => {
  it('is one sentence in two languages, and never a stack', () => {
    const line = failureLine(new Failure('NotRouted', 'package tiny'));
    expect(line).toMatch(/没有逐词元路由 \/ this package has no per-token router: package tiny/);
    expect(failureLine(new TypeError('x is not a function'))).toMatch(/an error in this program/);
    expect(failureLine(new TypeError('x'))).not.toMatch(/\n|at /);
  });

  it('ends with 2 for a wrong command line and 1 for the rest', () => {
    expect(exitCode(new Failure('Usage', ''))).toBe(2);
    expect(exitCode(new Failure('UnknownTask', ''))).toBe(2);
    expect(exitCode(new Failure('NotFound', ''))).toBe(1);
    expect(exitCode(new Error(''))).toBe(1);
  });
});
