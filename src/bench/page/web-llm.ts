import type { MLCEngine } from '../../peer/web-llm.ts';
import type { WebLlmOptions, WebLlmPage, WebLlmUsage } from '../mlc-engine.ts';
import type { AdapterFacts } from '../mlc-library.ts';

/** web-llm on a page of its own, with the token ids of the other engines. */

const ID = 'random';
/** Some words for what web-llm writes by itself: its tokenizer cuts them, so that they are about as many tokens. */
const WORDS = '孩子三岁，发热两天，咳嗽，有痰，精神还好，吃饭少。';

let engine: MLCEngine | null = null;
let vocab = 0;
/** Addresses that web-llm wanted the bytes of. */
const asked = new Set<string>();

function loaded(): MLCEngine {
  if (engine === null) throw new Error('this page has not loaded web-llm');
  return engine;
}

export const webLlm: WebLlmPage = {
  adapter,

  async check(options: WebLlmOptions): Promise<void> {
    try {
      await open(options);
    } catch (error) {
      if (!asked.has(options.manifest)) throw error;
    }
  },

  async load(options: WebLlmOptions): Promise<string> {
    engine = await open(options);
    vocab = options.vocab;
    const { name, f16 } = await adapter();
    return `${name}, ${f16 ? 'with' : 'without'} shader-f16`;
  },

  async prefill(tokens: readonly number[]): Promise<number> {
    await loaded().resetChat();
    const start = performance.now();
    await forward(tokens, true);
    return performance.now() - start;
  },

  async decode(context: readonly number[], tokens: readonly number[]): Promise<readonly number[]> {
    await loaded().resetChat();
    await forward(context, true);
    const ms: number[] = [];
    for (const token of tokens) {
      const start = performance.now();
      await forward([token], false);
      ms.push(performance.now() - start);
    }
    return ms;
  },

  async answer(tokens: number, seed: number, check: boolean): Promise<WebLlmUsage> {
    await loaded().resetChat();
    const { choices, usage } = await loaded().completions.create({
      prompt: WORDS,
      stream: false,
      max_tokens: tokens,
      ignore_eos: true,
      temperature: 1,
      top_p: 1,
      seed,
      ...(check ? { logprobs: true, top_logprobs: 5 } : {}),
    });
    const written = usage?.completion_tokens ?? 0;
    const reason = choices[0]?.finish_reason ?? 'none';
    if (usage === undefined || written !== tokens || reason !== 'length') {
      throw new Error(`web-llm wrote ${written} of ${tokens} tokens and ended for: ${reason}`);
    }
    if (check) checkFinite(choices[0]?.logprobs?.content ?? [], tokens);
    const { prefill_tokens_per_s: prefill, decode_tokens_per_s: decode } = usage.extra;
    return { msPerPromptToken: 1000 / prefill, msPerToken: 1000 / decode };
  },
};

async function open({ model, library }: WebLlmOptions): Promise<MLCEngine> {
  readThrough();
  // 7 MB that the pages of other engines never see
  const { MLCEngine } = await import('../../peer/web-llm.ts');
  const made = new MLCEngine({
    appConfig: {
      model_list: [{ model, model_id: ID, model_lib: library }],
      cacheBackend: 'cache',
    },
    logLevel: 'WARN',
  });
  await made.reload(ID);
  return made;
}

/** Logits that are no numbers, or one that is infinite, leave no probability that is one. */
function checkFinite(
  tokens: readonly {
    readonly logprob: number;
    readonly top_logprobs: readonly { readonly logprob: number }[];
  }[],
  wanted: number,
): void {
  const all = tokens.flatMap(({ logprob, top_logprobs: others }) => [
    logprob,
    ...others.map((other) => other.logprob),
  ]);
  const wrong = all.findIndex((value) => !Number.isFinite(value));
  if (tokens.length !== wanted || wrong !== -1) {
    throw new Error(
      `web-llm gave probabilities of ${tokens.length} of ${wanted} tokens` +
        (wrong === -1 ? '' : `, one of them ${all[wrong] ?? NaN}: its logits are not finite`),
    );
  }
}

/** One pass that ends with a token on the CPU. @throws Error where the token is none */
async function forward(tokens: readonly number[], isPrefill: boolean): Promise<void> {
  const token = await loaded().forwardTokensAndSample([...tokens], isPrefill);
  if (!(token >= 0 && token < vocab)) throw new Error(`web-llm chose token ${token} of ${vocab}`);
}

async function adapter(): Promise<AdapterFacts> {
  const found = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (found === null) throw new Error('this browser gives no WebGPU adapter');
  const { vendor, architecture, description } = found.info;
  const { maxBufferSize, maxStorageBufferBindingSize } = found.limits;
  const name = [...new Set([vendor, architecture, description])].filter((part) => part !== '');
  const f16 = found.features.has('shader-f16');
  return { name: name.join(' ') || 'this GPU', f16, maxBufferSize, maxStorageBufferBindingSize };
}

/**
 * web-llm keeps every file in the browser's cache before it reads it. They lie on this machine:
 * what stands in the cache's place (for ArtifactCache in its lib/index.js) has them all, and
 * fetches one when its bytes are asked for.
 */
function readThrough(): void {
  const get = async ({ url }: Request): Promise<Response> => {
    asked.add(url);
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${url}: ${response.status}`);
    return response;
  };
  const match = (request: Request) =>
    Promise.resolve({
      json: async (): Promise<unknown> => (await get(request)).json(),
      arrayBuffer: async () => (await get(request)).arrayBuffer(),
    });
  const value = { open: () => Promise.resolve({ match, keys: () => Promise.resolve([]) }) };
  Object.defineProperty(globalThis, 'caches', { value, configurable: true });
}
