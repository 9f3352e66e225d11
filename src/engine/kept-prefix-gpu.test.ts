import { readFile } from 'node:fs/promises';
import { beforeAll, afterAll, describe, expect, it, vi } from 'vitest';
import { Failure, failureName } from '../failure.ts';
import { parseManifest } from '../format/layout.ts';
import { requestGpu } from '../gpu/device.ts';
import { gpuCases, testDriver, type GpuCase } from '../gpu/testing.ts';
import { Tokenizer } from '../text/tokenizer.ts';
import type { GenerateEvent, GenerateResult } from '../worker/api.ts';
import type { Backend } from './backend.ts';
import { openOnnx } from './backends/onnx.ts';
import { testRuntime } from './backends/testing.ts';
import { openWgsl } from './backends/wgsl.ts';
import { Engine, type EngineParts, type EngineRequest } from './engine.ts';
import { KeptPrefixes } from './kept-prefix.ts';
import { KeptInMemory } from './testing.ts';

/** A system text whose keys and values outlive the engine, on real devices and on the CPU. */

vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const folder = new URL('../../e2e/fixtures/tiny/', import.meta.url);
const read = (file: string): Promise<Uint8Array<ArrayBuffer>> => readFile(new URL(file, folder));
const system = '你是儿科医生，用简单的话回答家长关于孩子健康的问题，不确定时建议就医。';
const { tasks, ...others } = parseManifest(await read('manifest.json'));
const withSystem = (text: string) => ({
  ...others,
  tasks: tasks.map((task) => ({ ...task, system: text })),
});
const manifest = withSystem(system);
const tokenizer = Tokenizer.fromBytes(await read('tokenizer.json'));

const request: EngineRequest = {
  task: 'evidiag',
  turns: [{ role: 'user', text: '宝宝发烧两天，还咳嗽。' }],
  sampling: { temperature: 0.8, topK: 20, topP: 0.9, repetitionPenalty: 1.1, maxTokens: 12 },
  seed: 5,
  logprobs: 3,
};
/** What was said and how likely it was, bit for bit. */
const said = ({ text, tokens, logprobs }: GenerateResult) => ({ text, tokens, logprobs });
const quiet = (): void => undefined;

/** Nothing of an earlier visit is left in the cache. */
async function overwrite(backend: Backend): Promise<void> {
  const { vocab } = backend.config;
  backend.setTask('trerecom');
  await backend.prefill(Array.from({ length: 90 }, (_, i) => (i * 31 + 7) % vocab));
}

const noOther: EngineParts['maker'] = {
  helps: () => null,
  another: () => Promise.reject(new Error('no other')),
};

/** An engine as a page makes it, on a backend that is loaded already. */
async function visit(
  backend: Backend,
  kept: KeptInMemory,
  { text = system, sha = 'a'.repeat(64), maker = noOther } = {},
): Promise<Engine> {
  await overwrite(backend);
  const parts = { manifest: withSystem(text), manifestBytes: 0, tokenizer, maker };
  const first = { backend, selfTest: null };
  return new Engine({ ...parts, first, kept: new KeptPrefixes(kept, sha) });
}

async function onGpu(setting: GpuCase, cache: 'elem' | 'int8'): Promise<Backend> {
  const device = await requestGpu(testDriver(setting.variant), { ...setting, cache });
  return openWgsl(device, manifest, read, quiet);
}

const ways: readonly (readonly [string, () => Promise<Backend>])[] = [
  ...gpuCases.map((one) => [one.title, () => onGpu(one, 'elem')] as const),
  ...gpuCases.slice(-1).map((one) => [`8 bits, ${one.title}`, () => onGpu(one, 'int8')] as const),
  ['the CPU', () => openOnnx(testRuntime, manifest, read, quiet)],
];

describe.each(ways)('a system text by %s', (_, load) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await load();
  });
  afterAll(() => {
    backend.dispose();
  });

  it('is computed at the first visit and taken from storage at the next, with the same answer', async () => {
    const kept = new KeptInMemory();
    const first = await visit(backend, kept);
    const expected = await first.generate(request, quiet);
    await vi.waitFor(() => {
      expect(kept.records.size).toBe(1);
    });
    expect(expected.reusedTokens).toBe(0);
    expect(expected.tokens.length).toBeGreaterThan(4);

    const events: GenerateEvent[] = [];
    const second = await visit(backend, kept);
    const actual = await second.generate(request, (event) => void events.push(event));
    expect(actual.reusedTokens).toBeGreaterThanOrEqual(16);
    expect(actual.reusedTokens).toBeLessThan(actual.promptTokens);
    expect(said(actual)).toEqual(said(expected));
    const total = actual.promptTokens - actual.reusedTokens;
    expect(events.find(({ kind }) => kind === 'prefill')).toMatchObject({ done: 0, total });

    // A text of the person's own is kept as well, also where another one came before it.
    const own = {
      ...request,
      system: '你是一位有耐心的儿科护士，回答家长的问题，先问年龄和体温。',
    };
    const typed = await second.generate(own, quiet);
    await vi.waitFor(() => {
      expect(kept.records.size).toBe(2);
    });
    const third = await visit(backend, kept);
    await third.generate(request, quiet);
    const repeated = await third.generate(own, quiet);
    expect(repeated.reusedTokens).toBeGreaterThan(typed.reusedTokens);
    expect(said(repeated)).toEqual(said(typed));
    kept.records.delete([...kept.records.keys()][1] ?? '');

    // Tasks have other gates, and so other keys and values; each has a record of its own.
    const other = await second.generate({ ...request, task: 'medkqa' }, quiet);
    expect(other.reusedTokens).toBe(0);
    await vi.waitFor(() => {
      expect(kept.records.size).toBe(2);
    });
    const back = await second.generate(request, quiet);
    expect(back.reusedTokens).toBe(actual.reusedTokens);
    expect(said(back)).toEqual(said(expected));
    const again = await second.generate({ ...request, task: 'medkqa' }, quiet);
    expect(again.reusedTokens).toBe(actual.reusedTokens);
    expect(said(again)).toEqual(said(other));
    expect(kept.records.size).toBe(2);
    expect(kept.removed).toEqual([]);
  });

  it('gives no more rows than the cache has, and takes no others than it gave', async () => {
    const rows = backend.rows;
    if (rows === undefined) throw new Error('no way to the cache');
    await visit(backend, new KeptInMemory());
    await expect(rows.read(91)).rejects.toThrow(RangeError);
    const before = await rows.read(90);
    expect(before.length).toBe(rows.bytes(90));
    expect(() => {
      rows.write(before, 89);
    }).toThrow(RangeError);
    backend.truncate(0);
    rows.write(before, 90);
    expect(backend.position).toBe(90);
    expect(Buffer.from(await rows.read(90)).equals(Buffer.from(before))).toBe(true);
  });
});

describe('a record that is not what was kept', () => {
  let backend: Backend;
  let expected: GenerateResult;
  const sound = new KeptInMemory();
  beforeAll(async () => {
    const [setting] = gpuCases;
    if (setting === undefined) throw new Error('no way to run kernels');
    backend = await onGpu(setting, 'elem');
    expected = await (await visit(backend, sound)).generate(request, quiet);
    await vi.waitFor(() => {
      expect(sound.records.size).toBe(1);
    });
  });
  afterAll(() => {
    backend.dispose();
  });
  /** The one record, and a store that holds the same. */
  const copied = () => {
    const [[name, bytes] = ['', new Uint8Array()]] = sound.records;
    return { name, bytes, kept: new KeptInMemory([...sound.records]) };
  };

  it.each<[string, (bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>]>([
    ['with one bit of a key changed', (bytes) => flipped(bytes, 40)],
    ['with one bit of the last value changed', (bytes) => flipped(bytes, bytes.length - 1)],
    ['with one bit of its hash changed', (bytes) => flipped(bytes, 3)],
    ['cut short', (bytes) => bytes.slice(0, -4)],
    ['shorter than a hash', (bytes) => bytes.slice(0, 7)],
    ['empty', () => new Uint8Array()],
    ['of the right size and none of ours', (bytes) => bytes.map((_, i) => i)],
  ])('%s is removed, and the text is computed and kept anew', async (_, spoil) => {
    const { name, bytes, kept } = copied();
    kept.records.set(name, spoil(bytes));
    const actual = await (await visit(backend, kept)).generate(request, quiet);
    expect(actual.reusedTokens).toBe(0);
    expect(said(actual)).toEqual(said(expected));
    expect(kept.removed).toEqual([name]);
    await vi.waitFor(() => {
      expect(Buffer.from(kept.records.get(name) ?? []).equals(Buffer.from(bytes))).toBe(true);
    });
  });

  it('of another task, in the place of this one, is removed', async () => {
    const { name, bytes, kept } = copied();
    const task = { ...request, task: 'medkqa' };
    const right = await (await visit(backend, kept)).generate(task, quiet);
    await vi.waitFor(() => {
      expect(kept.records.size).toBe(2);
    });
    const other = [...kept.records.keys()].find((one) => one !== name) ?? '';
    kept.records.set(other, bytes);
    const actual = await (await visit(backend, kept)).generate(task, quiet);
    expect(actual.reusedTokens).toBe(0);
    expect(said(actual)).toEqual(said(right));
    expect(kept.removed).toEqual([other]);
  });

  it.each([
    ['manifest', { sha: 'b'.repeat(64) }],
    ['text of the same length', { text: system.replace('医', '护') }],
  ])('of another %s is not looked at', async (_, other) => {
    const { name, kept } = copied();
    const { reusedTokens } = await (await visit(backend, kept, other)).generate(request, quiet);
    expect(reusedTokens).toBe(0);
    await vi.waitFor(() => {
      expect(kept.records.size).toBe(2);
    });
    expect(kept.records.has(name)).toBe(true);
    expect(kept.removed).toEqual([]);
  });

  it('a sound one is what the next device starts from after a loss', async () => {
    const { name, kept } = copied();
    let steps = 0;
    const lost = (): Promise<never> => Promise.reject(new Failure('DeviceLost', 'gone'));
    const lossy = new Proxy(backend, {
      get: (target, member) => {
        if (member === 'dispose') return quiet;
        if (member === 'decode') {
          return (token: number) => (++steps === 3 ? lost() : target.decode(token));
        }
        const value: unknown = Reflect.get(target, member, target);
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    });
    const maker = {
      helps: (error: unknown) => (failureName(error) === 'DeviceLost' ? 'DeviceLost' : null),
      another: async () => {
        await overwrite(backend);
        return { backend, selfTest: null };
      },
    } as const;
    const actual = await (await visit(lossy, kept, { maker })).generate(request, quiet);
    expect(actual.recoveries).toEqual(['DeviceLost']);
    // Tokens of the answer so far go through the kernels of a prompt now, which round otherwise.
    expect(actual).toMatchObject({ text: expected.text, tokens: expected.tokens });
    expect(kept.reads).toEqual([name, name]);
    expect(kept.removed).toEqual([]);
  });

  it('a text of few tokens is not kept', async () => {
    const kept = new KeptInMemory();
    const engine = await visit(backend, kept, { text: '医生' });
    const { promptTokens } = await engine.generate(request, quiet);
    expect(promptTokens).toBeGreaterThan(8);
    expect(kept.reads).toEqual([]);
  });
});

const flipped = (bytes: Uint8Array<ArrayBuffer>, at: number) =>
  bytes.with(at, (bytes[at] ?? 0) ^ 1);
