/** What every engine on the page can be asked to do, and what goes between page and runner. */

export type EngineName = 'ours' | 'ort-webgpu' | 'ort-webgpu-int8' | 'ort-wasm';

export interface LoadOptions {
  readonly engine: EngineName;
  readonly threads: number; // of WebAssembly
  /**
   * ONNX Runtime 1.30's flash attention, which takes passes of 32 tokens and more, computes wrong
   * numbers where subgroups have 4 lanes, as SwiftShader's have. Its ways around: not to see that
   * the adapter has subgroups, or shorter passes.
   */
  readonly hideSubgroups: boolean;
  readonly longestPass: number;
}

/** Milliseconds of every step, and what came out at the end. */
export interface Measured {
  readonly ms: readonly number[];
  readonly output: readonly number[];
}

export interface BenchEngine {
  /** Adapter, build and options, for a person. */
  readonly info: string;
  /** Tokens into an empty cache; the output is the last one's logits [V]. */
  prefill(tokens: readonly number[]): Promise<Measured>;
  /**
   * One step for every token after `context` others; the output is the last one's logits.
   * Contexts beyond the tokens of the last prefill hold whatever is cheap to make.
   */
  decode(context: number, tokens: readonly number[]): Promise<Measured>;
  /**
   * Sixteen 4-bit matrices, F x D and D x F by turns, each by itself, with inputs of so many
   * tokens; the output is the product of the last one.
   */
  matmuls(tokens: number, repetitions: number): Promise<Measured>;
}

/** What only our engine has. */
export interface OurEngine extends BenchEngine {
  /** Decoding with and without the adapter by turns, and a switch of its task. */
  adapter(context: number, tokens: readonly number[]): Promise<AdapterCost>;
  /**
   * Lets `decode` begin with a cache of `short` tokens, or of `long` ones: keys and values of the
   * short one again and again, since minutes would pass until others are computed in software.
   */
  prepare(short: number, long: number): Promise<void>;
}

export interface AdapterCost {
  readonly without: readonly number[]; // ms per step
  readonly with: readonly number[];
  readonly switch: readonly number[]; // ms until the GPU has the new gates
}

/** Pairs of matrices in `matmuls`; the model has at least as many layers. */
export const MATMUL_PAIRS = 8;

/** Files beside the package's own, made for the peer. */
export const onnxFiles = {
  model: (int8: boolean): string => (int8 ? 'model-int8.onnx' : 'model.onnx'),
  matmuls: (int8: boolean): string => (int8 ? 'matmuls-int8.onnx' : 'matmuls.onnx'),
};

/** The same tokens for everybody. */
export function benchTokens(count: number, vocab: number, first = 0): number[] {
  return Array.from({ length: count }, (_, i) => ((i + first) * 7919 + 13) % vocab);
}

/** Inputs of `matmuls`: [tokens, columns] of numbers around 1. */
export function matmulInput(tokens: number, columns: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: tokens * columns }, (_, i) => 1.4 * Math.sin(i * 0.37 + 1));
}

declare global {
  /** The page's end of it. */
  var bench:
    | {
        load(options: LoadOptions): Promise<string>;
        prefill: BenchEngine['prefill'];
        decode: BenchEngine['decode'];
        matmuls: BenchEngine['matmuls'];
        adapter: OurEngine['adapter'];
        prepare: OurEngine['prepare'];
      }
    | undefined;
}
