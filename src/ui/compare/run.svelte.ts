import { Failure } from '../../failure.ts';
import type {
  SideEngine,
  SideModel,
  SideProgress,
  SideRequest,
  SideResult,
} from '../../peer/api.ts';
import { OncePerFrame } from '../frame.ts';
import type { TaskName } from '../tasks.ts';
import { type Trouble, troubleOf } from '../trouble.ts';

export type RunState =
  | 'waiting' // for the side before it
  | 'loading'
  | 'answering'
  | 'done'
  | 'stopped'
  | 'failed'
  | 'skipped'; // the person stopped before its turn

/** What a side was told to be when its run began. */
export interface RunChoice {
  readonly kind: 'ours' | 'peer';
  /** The package, or the folder that was imported. */
  readonly title: string;
  /** What was asked of a package; null for an imported model. */
  readonly asked: { readonly backend: 'webgpu' | 'cpu'; readonly task: TaskName } | null;
}

interface Clock {
  readonly now: () => number;
  /** Runs work before the next paint. */
  readonly request?: ((run: () => void) => void) | undefined;
}

/** One side's answer: from its model's loading to its last word, whatever happens. */
export class Run {
  state = $state<RunState>('waiting');
  progress = $state.raw<SideProgress | null>(null);
  model = $state.raw<SideModel | null>(null);
  text = $state('');
  result = $state.raw<SideResult | null>(null);
  /** Milliseconds from the question to the first piece of the answer. */
  firstMs = $state<number | null>(null);
  trouble = $state.raw<Trouble | null>(null);
  readonly choice: RunChoice;
  readonly #start: () => SideEngine;
  readonly #clock: Clock;

  constructor(
    choice: RunChoice,
    start: () => SideEngine,
    clock: Clock = { now: () => performance.now() },
  ) {
    this.choice = choice;
    this.#start = start;
    this.#clock = clock;
  }

  /** Loads, asks, disposes. Never rejects: what goes wrong is this side's own. */
  async go(request: SideRequest, signal: AbortSignal): Promise<void> {
    if (signal.aborted) {
      this.state = 'skipped';
      return;
    }
    this.state = 'loading';
    let engine: SideEngine | null = null;
    let progress: SideProgress | null = null;
    let text = '';
    const paint = new OncePerFrame(() => {
      this.progress = progress;
      this.text = text;
    }, this.#clock.request);
    try {
      engine = this.#start();
      this.model = await engine.load((step) => {
        progress = step;
        paint.ask();
      }, signal);
      if (signal.aborted) throw new Failure('Cancelled', 'stopped before the question');
      this.state = 'answering';
      const began = this.#clock.now();
      const result = await engine.generate(
        request,
        (piece) => {
          this.firstMs ??= this.#clock.now() - began;
          text += piece;
          paint.ask();
        },
        signal,
      );
      if (result.text !== '') text = result.text;
      this.result = result;
      this.model = { ...this.model, ...result.ran };
      this.state = result.finish === 'cancelled' ? 'stopped' : 'done';
    } catch (error) {
      const trouble = troubleOf(error);
      this.state = trouble.name === 'Cancelled' ? 'stopped' : 'failed';
      if (this.state === 'failed') this.trouble = trouble;
    } finally {
      paint.now();
      await engine?.dispose();
    }
  }
}
