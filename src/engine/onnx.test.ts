import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { beforeAll, describe, expect, it } from 'vitest';
import type { PackageSource } from '../format/source.ts';
import type { GenerateEvent, LoadProgress, SamplingSettings } from '../worker/api.ts';
import { testRuntime } from './backends/testing.ts';
import { Engine, type EngineRequest } from './engine.ts';

/** Whole answers without a GPU. */

beforeAll(() => {
  // What the library for formats looks for in Node; the command line has `script-globals.ts`.
  const path = import.meta.filename;
  Object.assign(globalThis, { require: createRequire(path), __filename: path, __dirname: path });
});

const sampling: SamplingSettings = {
  temperature: 0.9,
  topK: 20,
  topP: 0.95,
  repetitionPenalty: 1.2,
  maxTokens: 24,
};
const request: EngineRequest = {
  task: 'evidiag',
  turns: [{ role: 'user', text: '宝宝发烧两天，还咳嗽。' }],
  sampling,
  seed: 11,
};
const cpu = () => Promise.resolve(testRuntime);

function sourceOf(name: string, change?: (bytes: Buffer) => void): PackageSource {
  const folder = new URL(`../../e2e/fixtures/${name}/`, import.meta.url);
  return {
    read: async (file) => {
      const bytes = await readFile(new URL(file, folder));
      if (file === 'shard-00000.bin') change?.(bytes);
      return bytes;
    },
  };
}

describe('an engine on the CPU', () => {
  it('proves its numbers, says what it is, and answers the same for the same seed', async () => {
    const steps: LoadProgress['phase'][] = [];
    const onProgress = ({ phase }: LoadProgress) => steps.push(phase);
    const engine = await Engine.open(sourceOf('tiny'), null, { cpu, onProgress });
    expect([...new Set(steps)]).toEqual(['manifest', 'memory', 'self-test']);
    expect(engine.info).toMatchObject({ backend: 'onnx', variant: 'f32' });
    const { maxLogitDifference = 1, tolerance = 0 } = engine.info.selfTest ?? {};
    expect(maxLogitDifference).toBeLessThan(tolerance);
    const once = await engine.generate(request, () => undefined);
    const other = await engine.generate({ ...request, seed: 12 }, () => undefined);
    const again = await engine.generate(request, () => undefined);
    expect(again.tokens).toEqual(once.tokens);
    expect(other.tokens).not.toEqual(once.tokens);
    expect(again.reusedTokens).toBe(again.promptTokens - 1);
    engine.dispose();
  });

  it('reuses what it has of a conversation, and answers as if it had nothing', async () => {
    const engine = await Engine.open(sourceOf('tiny'), null, { cpu, selfTest: false });
    const first = await engine.generate(request, () => undefined);
    const turns = [
      ...request.turns,
      { role: 'assistant' as const, text: first.text },
      { role: 'user' as const, text: '要去医院吗？' },
    ];
    const second = await engine.generate({ ...request, turns }, () => undefined);
    expect(second.reusedTokens).toBeGreaterThan(8);
    const fresh = await Engine.open(sourceOf('tiny'), null, { cpu, selfTest: false });
    const expected = await fresh.generate({ ...request, turns }, () => undefined);
    expect(expected.reusedTokens).toBe(0);
    expect(second.tokens).toEqual(expected.tokens);
    engine.dispose();
    fresh.dispose();
  });

  it('hears a stop between two tokens', async () => {
    const engine = await Engine.open(sourceOf('tiny'), null, { cpu, selfTest: false });
    const stop = new AbortController();
    let pieces = 0;
    const onEvent = (event: GenerateEvent): void => {
      if (event.kind === 'piece') pieces += 1;
      // Told through the event loop, as a message of the page is.
      if (pieces === 2) setTimeout(() => stop.abort(), 0);
    };
    const long = { ...request, sampling: { ...sampling, temperature: 0, maxTokens: 200 } };
    const result = await engine.generate(long, onEvent, stop.signal);
    expect(result.finish).toBe('cancelled');
    expect(result.outputTokens).toBeLessThan(60);
    engine.dispose();
  });

  it('follows a format and tells log-probabilities', async () => {
    const engine = await Engine.open(sourceOf('tiny'), null, { cpu, selfTest: false });
    const format = { kind: 'regex', pattern: '(是|否)，请[0-9]{2}' } as const;
    const result = await engine.generate({ ...request, format, logprobs: 3 }, () => undefined);
    expect(result.text).toMatch(/^(是|否)，请[0-9]{2}$/);
    expect(result.logprobs).toHaveLength(result.outputTokens);
    expect(result.logprobs?.every(({ logprob, top }) => logprob <= 0 && top.length === 3)).toBe(
      true,
    );
    engine.dispose();
  });

  it('refuses a package whose numbers come out otherwise', async () => {
    const source = sourceOf('tiny', (bytes) => bytes.fill(0x5a, 4096, 40_000));
    const opened = Engine.open(source, null, { cpu });
    await expect(opened).rejects.toMatchObject({ name: 'WrongNumbers' });
  });

  it('is none where nobody offers a CPU', async () => {
    const opened = Engine.open(sourceOf('tiny'), null);
    await expect(opened).rejects.toMatchObject({ name: 'NoWebGpu' });
  });
});
