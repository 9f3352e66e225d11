import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { webLlm } from './web-llm.ts';

/** An engine in web-llm's place: what the page asks it for, and what it makes of the answers. */

interface Asked {
  readonly max_tokens: number;
  readonly logprobs?: boolean;
}

const fake = vi.hoisted(() => ({
  forwarded: [] as (readonly [readonly number[], boolean] | 'reset')[],
  next: 3,
  written: (asked: number) => asked,
  finish: 'length',
  logprob: -1,
  /** What `reload` reads, and what then goes wrong. */
  reads: [] as string[],
  failure: null as Error | null,
}));

vi.mock('../../peer/web-llm.ts', () => ({
  MLCEngine: class {
    readonly completions = {
      create: ({ max_tokens: most, logprobs }: Asked) => {
        const content = Array.from({ length: most }, (_, i) => ({
          logprob: -1,
          top_logprobs: [{ logprob: i === 1 ? fake.logprob : -2 }],
        }));
        return Promise.resolve({
          choices: [{ finish_reason: fake.finish, logprobs: logprobs ? { content } : null }],
          usage: {
            completion_tokens: fake.written(most),
            extra: { prefill_tokens_per_s: 500, decode_tokens_per_s: 100 },
          },
        });
      },
    };

    async reload(): Promise<void> {
      const cache = (await caches.open('any')) as unknown as {
        match(request: { url: string }): Promise<{ arrayBuffer(): Promise<ArrayBuffer> }>;
      };
      for (const url of fake.reads) {
        const found = await cache.match({ url });
        expect((await found.arrayBuffer()).byteLength).toBe(3);
      }
      if (fake.failure) throw fake.failure;
    }

    resetChat(): Promise<void> {
      fake.forwarded.push('reset');
      return Promise.resolve();
    }

    forwardTokensAndSample(tokens: readonly number[], isPrefill: boolean): Promise<number> {
      fake.forwarded.push([tokens, isPrefill]);
      return Promise.resolve(fake.next);
    }
  },
}));

const fetched: string[] = [];
const options = { model: '/m/', library: '/m/l.wasm', manifest: '/m/tensor-cache.json', vocab: 8 };

beforeEach(async () => {
  fetched.length = 0;
  Object.assign(fake, { next: 3, finish: 'length', logprob: -1, reads: ['/m/l.wasm'] });
  Object.assign(fake, { forwarded: [], written: (asked: number) => asked, failure: null });
  const info = { vendor: 'v', architecture: 'a', description: '' };
  const limits = { maxBufferSize: 1, maxStorageBufferBindingSize: 2 };
  const adapter = { info, limits, features: new Set(['shader-f16']) };
  vi.stubGlobal('navigator', { gpu: { requestAdapter: () => Promise.resolve(adapter) } });
  vi.stubGlobal('caches', {});
  vi.stubGlobal('fetch', (url: string) => {
    fetched.push(url);
    return Promise.resolve(
      url.includes('404') ? new Response('', { status: 404 }) : new Response('abc'),
    );
  });
  expect(await webLlm.load(options)).toBe('v a, with shader-f16');
});
afterEach(() => vi.unstubAllGlobals());

describe('the page of web-llm', () => {
  it('says what GPU it would run on', async () => {
    const facts = { name: 'v a', f16: true, maxBufferSize: 1, maxStorageBufferBindingSize: 2 };
    expect(await webLlm.adapter()).toEqual(facts);
  });

  it('fetches every file once, when its bytes are wanted', () => {
    expect(fetched).toEqual(['/m/l.wasm']);
  });

  it('does not take a file that is not there', async () => {
    fake.reads = ['/m/404'];
    await expect(webLlm.load(options)).rejects.toThrow('/m/404: 404');
  });

  it('checks a library without weights up to where it asks for them', async () => {
    fake.failure = new Error('no instance');
    const other = { ...options, manifest: '/other/tensor-cache.json' };
    await expect(webLlm.check(other)).rejects.toThrow('no instance');
    fake.reads = ['/m/l.wasm', other.manifest];
    await webLlm.check(other);
  });

  it('prefills into an empty cache, and decodes after a context that is not timed', async () => {
    expect(await webLlm.prefill([1, 2])).toBeGreaterThanOrEqual(0);
    expect(await webLlm.decode([4, 5], [6, 7])).toHaveLength(2);
    expect(fake.forwarded).toEqual(['reset', [[1, 2], true], 'reset', [[4, 5], true], [[6], false], [[7], false]]); // prettier-ignore
  });

  it.each([8, -1, NaN])('does not take token %d for one of 8', async (token) => {
    fake.next = token;
    await expect(webLlm.prefill([1])).rejects.toThrow(`web-llm chose token ${token} of 8`);
  });

  it('gives the times that web-llm says', async () => {
    expect(await webLlm.answer(4, 1, false)).toEqual({ msPerPromptToken: 2, msPerToken: 10 });
    expect(await webLlm.answer(4, 1, true)).toEqual({ msPerPromptToken: 2, msPerToken: 10 });
  });

  it('does not take an answer that is shorter, or ended otherwise', async () => {
    fake.written = (asked) => asked - 1;
    await expect(webLlm.answer(4, 1, false)).rejects.toThrow('web-llm wrote 3 of 4 tokens');
    fake.written = (asked) => asked;
    fake.finish = 'stop';
    await expect(webLlm.answer(4, 1, false)).rejects.toThrow(/ended for: stop/);
  });

  it.each([NaN, Infinity, -Infinity])('does not take a probability of %d', async (logprob) => {
    fake.logprob = logprob;
    await webLlm.answer(4, 1, false);
    await expect(webLlm.answer(4, 1, true)).rejects.toThrow(/logits are not finite/);
  });
});
