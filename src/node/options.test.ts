import { describe, expect, it } from 'vitest';
import { failureName } from '../failure.ts';
import { checkTask, parseOptions, samplingOf, type AskOptions } from './options.ts';

/** The name of the failure that a command line gives. */
const refused = (...args: string[]): string => {
  try {
    parseOptions(args);
    return 'none';
  } catch (error) {
    return failureName(error);
  }
};
const parse = (...args: string[]): AskOptions => {
  const options = parseOptions(args);
  if (options === null) throw new Error('only help was asked for');
  return options;
};

describe('the command line of ask', () => {
  it('has defaults for all but the question', () => {
    expect(parse('宝宝发烧')).toMatchObject({
      question: '宝宝发烧',
      task: null,
      greedy: false,
      temperature: null,
      maxTokens: null,
      seed: null,
      routed: false,
      backend: 'auto',
      variant: 'auto',
      json: false,
      cache: 'elem',
      int8: false,
      calibrate: true,
    });
    expect(parse('--cache', 'int8').cache).toBe('int8');
    expect(refused('--cache', 'int4')).toBe('Usage');
    expect(parse('--no-calibrate').calibrate).toBe(false);
    expect(parse('--backend', 'cpu').backend).toBe('cpu');
    expect(parse().question).toBeNull();
    expect(parse().package).toMatch(/public\/models\/nano$/);
  });

  it('reads every option, before and after the question', () => {
    const args =
      '--task evidiag 问 --max-tokens 7 --seed 0 --routed --variant f16 --json --logprobs 3';
    expect(parse(...args.split(' '), '--package', 'x', '--temperature', '0.5')).toMatchObject({
      question: '问',
      task: 'evidiag',
      maxTokens: 7,
      seed: 0,
      routed: true,
      variant: 'f16',
      json: true,
      logprobs: 3,
      package: 'x',
      temperature: 0.5,
    });
  });

  it('joins words that the shell has taken apart', () => {
    expect(parse('does', 'it', 'hurt').question).toBe('does it hurt');
  });

  it.each([
    ['--max-tokens', '-1'],
    ['--max-tokens', '0'],
    ['--max-tokens', '1.5'],
    ['--max-tokens', 'many'],
    ['--max-tokens', ''],
    ['--seed', '-1'],
    ['--seed', '4294967296'],
    ['--temperature', '-0.1'],
    ['--temperature', 'NaN'],
    ['--variant', 'f64'],
    ['--backend', 'tpu'],
    ['--backend', 'cpu', '--variant', 'f16'],
    ['--backend', 'cpu', '--int8'],
    ['--max-tokens'],
    ['--unknown'],
    ['--greedy', '--temperature', '1'],
    ['--greedy', '--min-p', '0.1'],
    ['--min-p', '1.1'],
    ['--presence-penalty', '3'],
    ['--json', '--logprobs', '21'],
    ['--logprobs', '2'],
    ['--schema', '/no/such/file'],
    ['--schema', import.meta.filename],
    ['--schema', 'package.json', '--regex', 'x'],
  ])('refuses %s %s %s %s', (...args) => {
    expect(refused('问', ...args)).toBe('Usage');
  });

  it('reads a format', () => {
    expect(parse('问').format).toBeNull();
    expect(parse('问', '--regex', '是|否').format).toEqual({ kind: 'regex', pattern: '是|否' });
    const format = parse('问', '--schema', 'package.json').format; // any object will do here
    expect(format).toMatchObject({ kind: 'json', schema: { type: 'module' } });
  });

  it('refuses --json without a question', () => {
    expect(refused('--json')).toBe('Usage');
  });

  it('names the tasks where one is unknown', () => {
    expect(() => checkTask('x', ['a', 'b'])).toThrow(/x; the tasks here are a, b/);
    expect(() => checkTask('a', ['a', 'b'])).not.toThrow();
  });
});

describe('the sampling of an answer', () => {
  const own = { temperature: 0.7, topK: 40, topP: 0.9, repetitionPenalty: 1.1, maxTokens: 64 };

  it("is the package's own unless the command line changes it", () => {
    expect(samplingOf(parse('问'), own)).toEqual(own);
    expect(samplingOf(parse('问', '--temperature', '0'), own)).toEqual({ ...own, temperature: 0 });
    expect(samplingOf(parse('问', '--max-tokens', '5'), own)).toEqual({ ...own, maxTokens: 5 });
    const more = parse('问', '--min-p', '0.05', '--presence-penalty', '0.5');
    expect(samplingOf(more, own)).toEqual({ ...own, minP: 0.05, presencePenalty: 0.5 });
  });

  it('is plain argmax when greedy', () => {
    expect(samplingOf(parse('问', '--greedy'), own)).toEqual({
      temperature: 0,
      topK: 0,
      topP: 1,
      repetitionPenalty: 1,
      maxTokens: 64,
    });
  });
});
