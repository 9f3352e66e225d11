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
import { hearAnswer, Watch } from '../watch.svelte.ts';

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
  /** Its worker is being ended, since it did not move. */
  isEnding = $state(false);
  /** Notices a side that does not move. One that was stopped and goes on saying nothing is ended. */
  readonly watch = new Watch(() => {
    if (this.#isStopped) this.end();
  });
  readonly choice: RunChoice;
  readonly #start: () => SideEngine;
  readonly #clock: Clock;
  #engine: SideEngine | null = null;
  #isStopped = false;

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
    const onstop = (): void => {
      this.#isStopped = true;
      if (this.watch.stall !== null) this.end();
    };
    // Before those of the engine: one that is being ended is asked for nothing more.
    signal.addEventListener('abort', onstop, { once: true });
    let progress: SideProgress | null = null;
    let text = '';
    const paint = new OncePerFrame(() => {
      this.progress = progress;
      this.text = text;
    }, this.#clock.request);
    try {
      const engine = this.#start();
      this.#engine = engine;
      this.model = await this.watch.during('load', (heard) =>
        engine.load((step) => {
          heard(step.waits ? 'wait' : 'load');
          progress = step;
          paint.ask();
        }, signal),
      );
      if (signal.aborted) throw new Failure('Cancelled', 'stopped before the question');
      this.state = 'answering';
      const began = this.#clock.now();
      const result = await this.watch.during('answer', (heard) =>
        engine.generate(
          request,
          (piece) => {
            heard('answer');
            this.firstMs ??= this.#clock.now() - began;
            text += piece;
            paint.ask();
          },
          signal,
          (event) => hearAnswer(heard, event),
        ),
      );
      if (result.text !== '') text = result.text;
      this.result = result;
      this.model = { ...this.model, ...result.ran };
      this.state = result.finish === 'cancelled' ? 'stopped' : 'done';
    } catch (error) {
      // Who stopped a load that did not move has ended its worker with it.
      const hung = this.isEnding ? new Failure('WorkerHung', 'the side was ended') : error;
      const trouble = troubleOf(hung);
      this.state = trouble.name === 'Cancelled' ? 'stopped' : 'failed';
      if (this.state === 'failed') this.trouble = trouble;
    } finally {
      paint.now();
      signal.removeEventListener('abort', onstop);
      const engine = this.#engine;
      this.#engine = null;
      await engine?.dispose();
    }
  }

  /** Ends a side that does not move, with its worker. What it wrote stays, and it has failed. */
  end(): void {
    if (this.#engine === null || this.isEnding) return;
    this.isEnding = true;
    this.#engine.end();
  }
}
