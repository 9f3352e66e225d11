import { Failure, failureName } from '../failure.ts';
import type { PeerModel, SideModel, SideProgress, SideRequest, SideResult } from './api.ts';
import type { ServedModel } from './served.ts';

/** One model of web-llm: loaded once, asked, unloaded. */

/** What of web-llm's MLCEngine is used; a test hands in another. */
export interface MlcEngine {
  reload(modelId: string): Promise<void>;
  unload(): Promise<void>;
  interruptGenerate(): void | Promise<void>;
  readonly chat: {
    readonly completions: {
      create(request: MlcRequest): Promise<AsyncIterable<MlcChunk>>;
    };
  };
}

export interface MlcRequest {
  readonly stream: true;
  readonly stream_options: { readonly include_usage: true };
  readonly messages: { readonly role: 'system' | 'user'; readonly content: string }[];
  readonly temperature: number;
  readonly top_p: number;
  readonly repetition_penalty: number;
  readonly presence_penalty: number;
  readonly max_tokens: number;
  readonly seed: number;
}

export interface MlcChunk {
  readonly choices: readonly {
    readonly delta: { readonly content?: string | null };
    readonly finish_reason?: string | null;
  }[];
  readonly usage?: {
    readonly prompt_tokens: number;
    readonly completion_tokens: number;
    readonly extra: {
      readonly prefill_tokens_per_s: number;
      readonly decode_tokens_per_s: number;
    };
  };
}

export interface MlcConfig {
  readonly appConfig: {
    model_list: { model: string; model_id: string; model_lib: string }[];
    readonly cacheBackend: 'cache';
  };
  readonly initProgressCallback: (report: { progress: number; text: string }) => void;
  readonly logLevel: 'WARN';
}
export type MakeMlcEngine = (config: MlcConfig) => MlcEngine;

/** What the model is called towards the runtime. */
const ID = 'imported';

export class PeerSession {
  readonly #engine: MlcEngine;
  readonly #facts: SideModel;
  #isStopped = false;

  private constructor(engine: MlcEngine, facts: SideModel) {
    this.#engine = engine;
    this.#facts = facts;
  }

  /** @throws Failure */
  static async open(
    make: MakeMlcEngine,
    model: PeerModel,
    { base, library }: ServedModel,
    adapter: string,
    onProgress: (progress: SideProgress) => void,
  ): Promise<PeerSession> {
    const engine = make({
      // Nothing of the runtime's own list, which names models on other sites.
      appConfig: {
        model_list: [{ model: base, model_id: ID, model_lib: library }],
        cacheBackend: 'cache',
      },
      initProgressCallback: ({ progress, text }) => {
        const phase = text.includes('shader') ? 'compile' : 'upload';
        onProgress({ phase, part: Number.isFinite(progress) ? progress : null });
      },
      logLevel: 'WARN',
    });
    try {
      await engine.reload(ID);
    } catch (error) {
      await engine.unload().catch(() => undefined); // what it threw first is what went wrong
      throw failureOf(error, 'BadLibrary');
    }
    const variant = model.needsF16 ? 'f16' : 'f32';
    const facts = { model: model.name, backend: 'web-llm', variant, adapter } as const;
    return new PeerSession(engine, facts);
  }

  get facts(): SideModel {
    return this.#facts;
  }

  /** @throws Failure */
  async generate(request: SideRequest, onPiece: (piece: string) => void): Promise<SideResult> {
    const { question, system, sampling, seed } = request;
    this.#isStopped = false;
    let text = '';
    let finish: string | null = null;
    let usage: MlcChunk['usage'];
    try {
      const chunks = await this.#engine.chat.completions.create({
        stream: true,
        stream_options: { include_usage: true },
        messages: [
          ...(system === '' ? [] : [{ role: 'system' as const, content: system }]),
          { role: 'user' as const, content: question },
        ],
        temperature: sampling.temperature,
        top_p: sampling.topP,
        repetition_penalty: sampling.repetitionPenalty,
        presence_penalty: sampling.presencePenalty ?? 0,
        max_tokens: sampling.maxTokens,
        seed,
      });
      for await (const { choices, usage: known } of chunks) {
        const [choice] = choices;
        const piece = choice?.delta.content ?? '';
        text += piece;
        if (piece !== '') onPiece(piece);
        finish = choice?.finish_reason ?? finish;
        usage = known ?? usage;
      }
    } catch (error) {
      throw failureOf(error, 'Bug');
    }
    const { backend, variant, adapter } = this.#facts;
    return {
      text,
      promptTokens: usage?.prompt_tokens ?? 0,
      reusedTokens: 0,
      outputTokens: usage?.completion_tokens ?? 0,
      prefillTokensPerSecond: usage?.extra.prefill_tokens_per_s ?? 0,
      decodeTokensPerSecond: usage?.extra.decode_tokens_per_s ?? 0,
      finish:
        this.#isStopped || finish === 'abort'
          ? 'cancelled'
          : finish === 'length'
            ? 'length'
            : 'stop',
      ran: { backend, variant, adapter },
    };
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#engine.interruptGenerate();
  }

  async close(): Promise<void> {
    await this.#engine.unload();
  }
}

/** What web-llm throws (lib/error.d.ts), as failures that the page has words for. */
const known: Readonly<Record<string, Parameters<typeof asFailure>[0]>> = {
  WebGPUNotAvailableError: 'NoWebGpu',
  WebGPUNotFoundError: 'NoWebGpu',
  ShaderF16SupportError: 'DeviceLimit',
  FeatureSupportError: 'DeviceLimit',
  DeviceLostError: 'DeviceLost',
  ContextWindowSizeExceededError: 'PromptTooLong',
  NotReadableError: 'BadFolder',
  NotFoundError: 'BadFolder',
};

/** @param other what an error is that nobody knows: of the library, or a bug of ours */
function failureOf(error: unknown, other: 'BadLibrary' | 'Bug'): unknown {
  if (failureName(error) !== 'Bug') return error;
  const name = error instanceof Error ? error.name : '';
  const message = error instanceof Error ? error.message : String(error);
  const expected = known[name] ?? (/device.{0,20}lost/i.test(message) ? 'DeviceLost' : null);
  if (expected !== null) return asFailure(expected, message, error);
  return other === 'Bug' ? error : asFailure('BadLibrary', `${name}: ${message}`, error);
}

const asFailure = (
  name: ConstructorParameters<typeof Failure>[0],
  message: string,
  cause: unknown,
): Failure => new Failure(name, message, { cause });
