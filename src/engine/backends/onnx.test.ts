import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { parseManifest } from '../../format/layout.ts';
import type { Manifest } from '../../format/manifest.ts';
import { parseSafetensors, toFloat32 } from '../../format/safetensors.ts';
import type { Backend } from '../backend.ts';
import { argmax } from '../sampler.ts';
import { openOnnx } from './onnx.ts';
import { testRuntime } from './testing.ts';

/** The CPU backend against PyTorch's golden files, and what a conversation asks of it. */

/** Both compute in f32 and add up in other orders; what was seen is below 2e-5. */
const TOLERANCE = 5e-5;

const root = new URL('../../../', import.meta.url);
const folderOf = (name: string): URL =>
  new URL(name === 'nano' ? 'public/models/nano/' : `e2e/fixtures/${name}/`, root);

const golden = v.object({
  tasks: v.record(
    v.string(),
    v.object({ prompt_tokens: v.array(v.number()), greedy_tokens: v.array(v.number()) }),
  ),
});

async function open(name: string) {
  const folder = folderOf(name);
  const manifest = parseManifest(await readFile(new URL('manifest.json', folder)));
  const read: string[] = [];
  const seen: number[] = [];
  const backend = await openOnnx(
    testRuntime,
    manifest,
    (file) => {
      read.push(file);
      return readFile(new URL(file, folder));
    },
    ({ bytesDone, bytesTotal }) => seen.push(bytesDone / bytesTotal),
  );
  return { backend, manifest, read, seen };
}

async function greedily(backend: Backend, prompt: readonly number[], count: number) {
  const tokens: number[] = [];
  let logits = await backend.prefill(prompt);
  while (tokens.length < count) {
    tokens.push(argmax(logits));
    logits = await backend.decode(tokens.at(-1) ?? 0);
  }
  return tokens;
}

function worst(actual: Float32Array, expected: Float32Array): number {
  expect(actual.length).toBe(expected.length);
  return actual.reduce((most, value, i) => {
    const error = Math.abs(value - (expected[i] ?? NaN));
    return error <= most ? most : error;
  }, 0);
}

/** Tokens of the vocabulary in no order. */
const someTokens = (count: number, { config }: Manifest): number[] =>
  Array.from({ length: count }, (_, i) => (5 + i * 37) % config.vocab);

describe.each(['tiny', 'tiny-routed', 'tiny-alibi', 'tiny-llama', 'tiny-qwen2', 'tiny-qwen3'])(
  '%s on the CPU',
  (name) => {
    it('gives PyTorch’s logits and 32 greedy tokens in every task', async () => {
      const { tasks } = v.parse(golden, await json(`e2e/fixtures/golden/${name}.json`));
      const tensors = parseSafetensors(
        await readFile(new URL(`e2e/fixtures/golden/${name}.safetensors`, root)),
      );
      const { backend, manifest } = await open(name);
      for (const [task, { prompt_tokens: prompt, greedy_tokens: greedy }] of Object.entries(
        tasks,
      )) {
        const stored = tensors.get(`${task}.logits`);
        if (stored === undefined) throw new Error(`no golden logits of ${task}`);
        expect(backend.setTask(task)).toBeGreaterThanOrEqual(0);
        const { logits } = await backend.forwardAll(prompt);
        expect(worst(logits, toFloat32(stored.dtype, stored.bytes))).toBeLessThan(TOLERANCE);
        expect(logits.length).toBe(prompt.length * manifest.config.vocab);
        expect(backend.position).toBe(0);
        expect(await greedily(backend, prompt, 32)).toEqual(greedy);
        expect(backend.position).toBe(prompt.length + 32);
      }
      backend.dispose();
    });
  },
);

it('the shipped model gives PyTorch’s greedy tokens', async () => {
  const { tasks } = v.parse(golden, await json('e2e/fixtures/golden/nano.json'));
  const { backend } = await open('nano');
  for (const [task, { prompt_tokens: prompt, greedy_tokens: greedy }] of Object.entries(tasks)) {
    backend.setTask(task);
    expect(await greedily(backend, prompt, greedy.length)).toEqual(greedy);
  }
  backend.dispose();
});

async function json(path: string): Promise<unknown> {
  return JSON.parse(await readFile(new URL(path, root), 'utf8'));
}

describe('loading', () => {
  it('reads every file with tensors once, and no other', async () => {
    const { backend, manifest, read, seen } = await open('tiny');
    const files = manifest.files.map(({ name }) => name).filter((name) => name.endsWith('.bin'));
    expect(read.toSorted()).toEqual(files.toSorted());
    expect(seen[0]).toBe(0);
    expect(seen.at(-1)).toBe(1);
    expect(backend).toMatchObject({ name: 'onnx', variant: 'f32', position: 0 });
    expect(backend.adapterName).toMatch(/^CPU, .*1 thread$/);
    backend.dispose();
  });

  it.each(['std::bad_alloc', 'RangeError: Array buffer allocation failed'])(
    'names memory that has run out: %s',
    async (message) => {
      const manifest = parseManifest(await readFile(new URL('manifest.json', folderOf('tiny'))));
      const runtime = {
        ...testRuntime,
        createSession: () => Promise.reject(new Error(message)),
      };
      const read = () => Promise.resolve(new Uint8Array());
      const opened = openOnnx(runtime, manifest, read, () => undefined);
      await expect(opened).rejects.toMatchObject({ name: 'CpuLimit' });
    },
  );

  it('leaves other errors as they are', async () => {
    const manifest = parseManifest(await readFile(new URL('manifest.json', folderOf('tiny'))));
    const broken = new Error('no such operator');
    const runtime = { ...testRuntime, createSession: () => Promise.reject(broken) };
    const read = () => Promise.resolve(new Uint8Array());
    await expect(openOnnx(runtime, manifest, read, () => undefined)).rejects.toBe(broken);
  });
});

describe('the cache', () => {
  it('holds the same after passes of many tokens as after single ones', async () => {
    const { backend, manifest } = await open('tiny');
    const tokens = someTokens(77, manifest);
    const { logits } = await backend.forwardAll(tokens);
    const done: number[] = [];
    const last = await backend.prefill(tokens, { onProgress: (count) => done.push(count) });
    expect(done).toEqual([32, 64, 77]);
    const { vocab } = manifest.config;
    expect(worst(last, logits.slice(76 * vocab))).toBeLessThan(TOLERANCE);
    backend.dispose();
  });

  it.each(['tiny', 'tiny-alibi'])('of %s goes on from where it was cut', async (name) => {
    const { backend, manifest } = await open(name);
    const tokens = someTokens(50, manifest);
    const expected = await backend.prefill([...tokens.slice(0, 33), ...tokens.slice(40)]);
    backend.truncate(0);
    await backend.prefill(tokens);
    backend.truncate(50);
    backend.truncate(33);
    expect(backend.position).toBe(33);
    const reused = await backend.prefill(tokens.slice(40));
    expect(worst(reused, expected)).toBeLessThan(TOLERANCE);
    expect(() => backend.truncate(60)).toThrow(RangeError);
    expect(() => backend.truncate(-1)).toThrow(RangeError);
    backend.dispose();
  });

  it('is emptied by another task, whose gates count from then on', async () => {
    const { backend, manifest } = await open('tiny');
    const tokens = someTokens(9, manifest);
    backend.setTask('medkqa');
    const first = await backend.prefill(tokens);
    backend.setTask('evidiag');
    expect(backend.position).toBe(0);
    expect(worst(await backend.prefill(tokens), first)).toBeGreaterThan(1e-2);
    backend.setTask('medkqa');
    expect(worst(await backend.prefill(tokens), first)).toBe(0);
    expect(() => backend.setTask('surgery')).toThrow(/no task surgery/);
    backend.dispose();
  });

  it('has an end, and takes no tokens that are none', async () => {
    const { backend, manifest } = await open('tiny');
    const { capacity, vocab } = manifest.config;
    const many = someTokens(capacity + 1, manifest);
    await expect(backend.prefill(many)).rejects.toMatchObject({ name: 'PromptTooLong' });
    await expect(backend.prefill([])).rejects.toThrow(RangeError);
    await expect(backend.decode(vocab)).rejects.toThrow(/not in the vocabulary/);
    expect(backend.position).toBe(0);
    backend.dispose();
  });
});

describe('a stop', () => {
  it('during a prompt ends it between two passes, and what was done stays', async () => {
    const { backend, manifest } = await open('tiny');
    const tokens = someTokens(100, manifest);
    const expected = await backend.prefill(tokens);
    backend.truncate(0);
    const stop = new AbortController();
    // Heard through the event loop, as a message of the page is.
    setTimeout(() => stop.abort(), 0);
    const passes: number[] = [];
    const onProgress = (done: number): void => {
      passes.push(done);
      const until = performance.now() + 20;
      while (performance.now() < until);
    };
    const work = backend.prefill(tokens, { signal: stop.signal, onProgress });
    await expect(backend.decode(1)).rejects.toMatchObject({ name: 'Busy' });
    await expect(work).rejects.toMatchObject({ name: 'Cancelled' });
    expect(passes.length).toBeLessThan(4);
    expect(backend.position).toBe(passes.at(-1) ?? 0);
    const rest = await backend.prefill(tokens.slice(backend.position));
    expect(worst(rest, expected)).toBeLessThan(TOLERANCE);
    backend.dispose();
  });
});

describe('a package with a router', () => {
  it('is run through it, and a merged one has none', async () => {
    const routed = await open('tiny-routed');
    routed.backend.setRouted(true);
    expect(() => routed.backend.setRouted(false)).toThrow(/router .* always asked/);
    routed.backend.dispose();
    const merged = await open('tiny');
    merged.backend.setRouted(false);
    expect(() => merged.backend.setRouted(true)).toThrow(
      expect.objectContaining({ name: 'NotRouted' }),
    );
    merged.backend.dispose();
  });
});
