import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, vi } from 'vitest';
import { parseManifest } from '../format/layout.ts';

/** The command as a person runs it: another process, on the tiny packages of the tests. */

const path = (name: string): string => fileURLToPath(new URL(`../../${name}`, import.meta.url));
const TINY = path('e2e/fixtures/tiny');
const ROUTED = path('e2e/fixtures/tiny-routed');

interface Golden {
  tasks: Record<string, { prompt: string; prompt_tokens: number[]; greedy_tokens: number[] }>;
}
const golden = (name: string): Golden =>
  JSON.parse(readFileSync(path(`e2e/fixtures/golden/${name}.json`), 'utf8')) as Golden;

interface Run {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Runs `ask`; what it prints, and how it ends. With `interrupt`, Ctrl-C at its first word. */
function ask(
  args: readonly string[],
  input = '',
  env: NodeJS.ProcessEnv = {},
  interrupt = false,
): Promise<Run> {
  return new Promise((resolve, reject) => {
    const command = ['--import', 'tsx', path('src/node/ask.ts'), '--no-calibrate', ...args];
    const child = spawn(process.execPath, command, {
      env: { ...process.env, NO_COLOR: '1', ...env },
      timeout: LONGEST_RUN_MS,
    });
    const out: Run = { status: null, stdout: '', stderr: '' };
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      if (interrupt && out.stdout === '') child.kill('SIGINT');
      out.stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => (out.stderr += text));
    child.on('error', reject);
    child.on('close', (status) => resolve({ ...out, status }));
    child.stdin.end(input);
  });
}

/** A software driver may compile shaders for a minute the first time, on a busy machine longer. */
const LONGEST_RUN_MS = 280_000;
vi.setConfig({ testTimeout: 2 * LONGEST_RUN_MS });

const STACK = /^\s+at .*(?:\.ts|\.js|node:)/m;

async function greedyTokens(folder: string, task: string, prompt: string, ...more: string[]) {
  const args = ['--package', folder, '--task', task, '--greedy', '--max-tokens', '32', '--json'];
  const { status, stdout, stderr } = await ask([...args, ...more, prompt]);
  expect(stderr).toMatch(/prefill [\d.]+ tok\/s · decode [\d.]+ tok\/s/);
  expect(status).toBe(0);
  return JSON.parse(stdout) as Record<string, unknown>;
}

/** The tiny package with room for a very long answer, which no likely token ends. */
async function endless(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'ask-test-'));
  await cp(TINY, folder, { recursive: true });
  const manifest = parseManifest(await readFile(join(folder, 'manifest.json')));
  const config = { ...manifest.config, capacity: 4096 };
  const template = { ...manifest.template, stopIds: [0] };
  const changed = JSON.stringify({ ...manifest, config, template });
  await writeFile(join(folder, 'manifest.json'), changed);
  return folder;
}

describe('ask on the tiny package', () => {
  it.each(Object.entries(golden('tiny').tasks))(
    'gives the tokens of the PyTorch run for %s',
    async (task, { prompt, prompt_tokens, greedy_tokens }) => {
      const answer = await greedyTokens(TINY, task, prompt);
      expect(Object.keys(answer)).toEqual([
        'task',
        'text',
        'tokens',
        'promptTokens',
        'outputTokens',
        'prefillTokensPerSecond',
        'decodeTokensPerSecond',
        'backend',
        'variant',
        'adapter',
      ]);
      expect(answer['tokens']).toEqual(greedy_tokens);
      expect(answer).toMatchObject({
        task,
        promptTokens: prompt_tokens.length,
        outputTokens: 32,
        backend: 'wgsl',
      });
    },
  );

  it('streams the answer to stdout and everything else to stderr', async () => {
    const args = ['--package', TINY, '--seed', '5', '--max-tokens', '8', '宝宝抽搐了怎么办'];
    const first = await ask(args);
    const again = await ask(args);
    expect(first.status).toBe(0);
    expect(first.stdout).toMatch(/\n$/);
    expect(first.stdout).not.toMatch(/tok\/s|\ufffd/);
    expect(first.stderr).toMatch(/不是医生/);
    expect(first.stderr).toMatch(/no doctor/);
    expect(first.stderr).toMatch(/120/);
    expect(first.stderr).toMatch(/seed 5 · wgsl f(?:32|16) on \S/);
    expect(again.stdout).toBe(first.stdout);
  });

  it('is a chat for piped lines', async () => {
    const lines = '你好\ntask evidiag\n宝宝咳嗽\nclear\n宝宝发烧\nexit\n不再回答\n';
    const args = ['--package', TINY, '--greedy', '--max-tokens', '4'];
    const { status, stdout, stderr } = await ask(args, lines);
    expect(status).toBe(0);
    expect(stderr.match(/^prompt \d+ tokens/gm)).toHaveLength(3);
    expect(stderr).toMatch(/task: evidiag/);
    expect(stdout.split('\n').length).toBeGreaterThanOrEqual(4);
  });

  it('stops at Ctrl-C and keeps what was said', async () => {
    const folder = await endless();
    const args = ['--package', folder, '--greedy', '--max-tokens', '5000', '宝宝发烧'];
    const stopped = await ask(args, '', {}, true);
    await rm(folder, { recursive: true });
    expect(stopped).toMatchObject({
      status: 130,
      stdout: expect.stringMatching(/.\n$/) as string,
      stderr: expect.stringMatching(/output \d+ tokens, cancelled/) as string,
    });
  });

  it('refuses routed mode with a sentence', async () => {
    const { status, stdout, stderr } = await ask(['--package', TINY, '--routed', '问']);
    expect(status).toBe(1);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/没有逐词元路由 \/ this package has no per-token router/);
    expect(stderr).not.toMatch(STACK);
  });
});

describe('ask on the tiny routed package', () => {
  it.each(Object.entries(golden('tiny-routed').tasks))(
    'gives the tokens of the PyTorch run for %s',
    async (task, { prompt, greedy_tokens }) => {
      const answer = await greedyTokens(ROUTED, task, prompt, '--routed');
      expect(answer['tokens']).toEqual(greedy_tokens);
    },
  );
});

describe('a wrong command line', () => {
  it.each([
    [['--max-tokens', '-3', '问'], 2, /whole number of at least 1/],
    [['--package', TINY, '--task', 'surgery', '问'], 2, /medkqa, evidiag, trerecom/],
    [['--frobnicate'], 2, /unknown option/],
    [['--json'], 2, /--json needs a question/],
    [['--package', '/nowhere', '问'], 1, /找不到模型包文件.*\/nowhere\/manifest\.json/],
    [['--package', TINY, ' '], 1, /没有输入问题/],
  ])('%j ends with %i and a sentence', async (args, expected, message) => {
    const { status, stdout, stderr } = await ask(args);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(STACK);
    expect(status).toBe(expected);
    expect(stdout).toBe('');
  });

  it('prints its help to stdout', async () => {
    const { status, stdout } = await ask(['--help']);
    expect(status).toBe(0);
    expect(stdout).toMatch(/--max-tokens/);
  });
});

describe('a machine without a driver', () => {
  const env = { VK_DRIVER_FILES: '/nowhere/icd.json' };

  it('is told how to get one where the GPU is asked for', async () => {
    const args = ['--package', TINY, '--backend', 'webgpu', '问'];
    const { status, stderr } = await ask(args, '', env);
    expect(status).toBe(1);
    expect(stderr).toMatch(/没有可用的 WebGPU 适配器.*install/);
  });

  it('answers on its CPU else, and says so', async () => {
    const args = ['--package', TINY, '--max-tokens', '4', '--json', '宝宝发烧怎么办？'];
    const { status, stdout, stderr } = await ask(args, '', env);
    expect(stderr).toMatch(/用处理器计算/);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ backend: 'onnx', outputTokens: 4 });
  });
});
