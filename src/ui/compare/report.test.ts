import { expect, test } from 'vitest';
import { aiLabel } from '../../store/records.ts';
import type { PeerProblemKind, SideEngine, SideRequest } from '../../peer/api.ts';
import { type Comparison, factRows, jsonOf, markdownOf } from './report.ts';
import { Run } from './run.svelte.ts';
import { compareEn } from './words-en.ts';
import { compareZh } from './words-zh.ts';

const request: SideRequest = {
  question: '# 宝宝<b>发烧</b>\n[链接](http://x)',
  system: '',
  seed: 5,
  sampling: { temperature: 0.3, topK: 20, topP: 0.8, repetitionPenalty: 1.1, maxTokens: 64 },
};

const engine = (text: string): SideEngine => ({
  load: () => Promise.resolve({ model: 'nano', backend: 'wgsl', variant: 'f32', adapter: 'a GPU' }),
  generate: (_, onPiece) => {
    onPiece(text);
    return Promise.resolve({
      text,
      promptTokens: 9,
      reusedTokens: 4,
      outputTokens: 3,
      prefillTokensPerSecond: 90,
      decodeTokensPerSecond: Number.NaN,
      finish: 'length' as const,
      ran: { backend: 'onnx' as const, variant: 'f32', adapter: 'CPU' },
    });
  },
  end: () => undefined,
  dispose: () => Promise.resolve(),
});

async function comparison(): Promise<Comparison> {
  let time = 0;
  const clock = { now: () => (time += 250), request: (run: () => void) => run() };
  const ours = new Run(
    { kind: 'ours', title: 'nano', asked: { backend: 'webgpu', task: 'medkqa' } },
    () => engine('多喝水\n---\n<script>'),
    clock,
  );
  const theirs = new Run(
    { kind: 'peer', title: 'their_model', asked: null },
    () => {
      throw Object.assign(new Error('no'), { name: 'BadLibrary' });
    },
    clock,
  );
  for (const run of [ours, theirs]) await run.go(request, new AbortController().signal);
  return {
    request,
    runs: [ours, theirs],
    imported: {
      name: 'their_model',
      bytes: 96,
      tensors: 3,
      contextTokens: 512,
      library: { name: 'l.wasm', bytes: 100, sha256: 'ab'.repeat(32) },
      manifest: { name: 'tensor-cache.json', sha256: 'cd'.repeat(32) },
      hasChecksums: true,
      needsF16: false,
      files: [],
    },
    machine: { browser: 'Browser/1', cores: 8, memoryGigabytes: null },
    app: '1.2.3',
    time: '2026-11-21T00:00:00.000Z',
  };
}

test('the JSON says that models made it, what ran, and what is not known', async () => {
  const file = JSON.parse(jsonOf(await comparison())) as Record<string, unknown>;
  expect(file).toMatchObject({
    format: 'pediatricsgpt-comparison',
    version: 1,
    aiGenerated: true,
    label: aiLabel,
    question: request.question,
    seed: 5,
    sampling: request.sampling,
    machine: { browser: 'Browser/1', cores: 8, memoryGigabytes: null },
    sides: [
      {
        kind: 'ours',
        isPediatricsGPT: true,
        asked: { backend: 'webgpu', task: 'medkqa' },
        ran: { backend: 'onnx', adapter: 'CPU' },
        state: 'done',
        firstTokenMs: 250,
        text: '多喝水\n---\n<script>',
        facts: { outputTokens: 3, reusedTokens: 4, finish: 'length', decodeTokensPerSecond: null },
      },
      {
        kind: 'peer',
        isPediatricsGPT: false,
        imported: { library: { sha256: 'ab'.repeat(32) }, manifest: { sha256: 'cd'.repeat(32) } },
        state: 'failed',
        failure: 'BadLibrary',
        text: '',
      },
    ],
  });
});

test.each([
  ['zh', compareZh],
  ['en', compareEn],
])('the Markdown in %s has the label at both ends, and text that stays text', async (_, w) => {
  const text = markdownOf(await comparison(), w, () => 'a failure');
  const label = `**${aiLabel.zh}**\n\n**${aiLabel.en}**`;
  expect(text.startsWith(label)).toBe(true);
  expect(text.trimEnd().endsWith(label)).toBe(true);
  expect(text).toContain(w.notOurs);
  expect(text).toContain('ab'.repeat(32));
  expect(text).toContain('a failure');
  expect(text).toContain(w.file.noAnswer);
  expect(text).toContain('> \\<script\\>');
  expect(text).toContain('> \\# 宝宝\\<b\\>发烧');
  expect(text).toContain('their\\_model');
  expect(text).not.toMatch(/NaN|undefined|\[object/);
});

test('a speed that could not be measured is unknown', async () => {
  const { runs } = await comparison();
  const [ours] = runs;
  if (ours === undefined) throw new Error('no run');
  const rows = new Map(factRows(ours, compareEn).map(({ name, value }) => [name, value]));
  expect(rows.get(compareEn.facts.decode)).toBe(compareEn.unknown);
  expect(rows.get(compareEn.facts.prefill)).toBe('90.0 tokens/s');
  expect(rows.get(compareEn.facts.first)).toBe('0.25 s');
  expect(rows.get(compareEn.facts.tokens)).toContain('4');
});

/** Every text of a tree of words; those with values in them get some. */
function texts(tree: object): string[] {
  return Object.values(tree).flatMap((value: unknown): string[] => {
    if (typeof value === 'string') return [value];
    if (typeof value === 'function')
      return [String((value as (...args: string[]) => unknown)('1', '2', '3', '4', '5'))];
    return typeof value === 'object' && value !== null ? texts(value) : [];
  });
}

test('both languages have words for everything, each its own', () => {
  const inChinese = texts(compareZh);
  const inEnglish = texts(compareEn);
  expect(inEnglish).toHaveLength(inChinese.length);
  for (const text of [...inChinese, ...inEnglish]) {
    expect(text.trim()).not.toBe('');
    expect(text).not.toContain('undefined');
  }
  expect(inEnglish.filter((text) => /[一-鿿]/.test(text))).toEqual([]);
  expect(inChinese.filter((text) => !/[一-鿿]/.test(text))).toEqual([]);
});

test('every problem names the file and says what to do', () => {
  for (const words of [compareZh.problems, compareEn.problems]) {
    for (const kind of ['missing', 'size', 'checksum', 'not-tvm'] as PeerProblemKind[]) {
      expect(words[kind]('params_shard_7.bin', '1 ≠ 2')).toContain('params_shard_7.bin');
    }
  }
});
