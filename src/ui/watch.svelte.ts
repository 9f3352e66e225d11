import type { GenerateEvent, LoadProgress } from '../worker/api.ts';
import { recall, remember } from './memory.ts';

/**
 * Notices a worker that hangs: one in an endless loop, or one that waits for a GPU which never
 * answers, says nothing, and the browser tells nobody. So the page listens for signs of progress, and
 * tells the person where none came for longer than this device should need. It ends nothing by itself.
 */

const TICK_MS = 1000;
/** More than this between two ticks is no waiting: the computer slept, or the page was held. */
const JUMP_MS = 5000;
/** So long nothing is said, however fast the device was until now. */
const FLOOR_MS = {
  answer: 60_000,
  /** Compiling every shader in software, making a session for the CPU, the self test: one step each. */
  load: 120_000,
  /** Another window may be busy with the package. */
  wait: 600_000,
} as const;
/** So many times the silence that was to be expected. */
const TIMES = 3;
const CEILING_MS = 600_000;
/** The longest silence of the last load that went well, in milliseconds: how slow this device is. */
const KEPT = 'silence';

/** What is under way; decides how long a silence may be. */
export type Step = keyof typeof FLOOR_MS;
/** A sign of progress; `expectedMs`: how long the next one may take, where that is known. */
export type Heard = (step: Step, expectedMs?: number) => void;

/** Something that has not moved for longer than it should. */
interface Stall {
  readonly kind: 'load' | 'answer';
  /** How long the silence was when it was noticed. */
  readonly seconds: number;
}

interface Operation {
  readonly kind: Stall['kind'];
  step: Step;
  expectedMs: number;
  silentMs: number;
  longestMs: number;
  /** No note before so much silence: the person chose to wait. */
  patienceMs: number;
}

interface WatchClock {
  readonly now: () => number;
  readonly isHidden: () => boolean;
}

const pageClock: WatchClock = {
  now: () => performance.now(),
  isHidden: () => globalThis.document?.hidden === true,
};

export class Watch {
  /** What does not move; null where all goes well, and again as soon as progress comes. */
  stall = $state.raw<Stall | null>(null);
  /** Seconds since the last sign of progress, while there is a stall. */
  seconds = $state(0);
  readonly #clock: WatchClock;
  readonly #onstall: () => void;
  #operation: Operation | null = null;
  #longestMs = Number(recall(KEPT)) || 0;
  #tickedAt = 0;

  /** `onstall` is told when a stall is noticed. */
  constructor(onstall: () => void = () => undefined, clock = pageClock) {
    this.#onstall = onstall;
    this.#clock = clock;
  }

  /** Watches over some work, which says when something has come of it. */
  async during<T>(kind: Stall['kind'], work: (heard: Heard) => Promise<T>): Promise<T> {
    const operation: Operation = {
      kind,
      step: kind,
      expectedMs: 0,
      silentMs: 0,
      longestMs: 0,
      patienceMs: 0,
    };
    this.#operation = operation;
    this.stall = null;
    this.#tickedAt = this.#clock.now();
    const ticking = setInterval(() => this.#tick(operation), TICK_MS);
    try {
      const result = await work((step, expectedMs = 0) => {
        this.#hear(operation);
        Object.assign(operation, { step, expectedMs });
      });
      this.#hear(operation);
      if (kind === 'load') {
        this.#longestMs = operation.longestMs;
        remember(KEPT, String(Math.round(operation.longestMs)));
      }
      return result;
    } finally {
      clearInterval(ticking);
      if (this.#operation === operation) {
        this.#operation = null;
        this.stall = null;
      }
    }
  }

  /** The person waits: nothing is said before the silence is twice as long. */
  wait(): void {
    if (this.#operation === null) return;
    this.#operation.patienceMs = 2 * this.#operation.silentMs;
    this.stall = null;
  }

  #tick(operation: Operation): void {
    const now = this.#clock.now();
    const passed = now - this.#tickedAt;
    this.#tickedAt = now;
    if (operation !== this.#operation) return; // something else has begun meanwhile
    if (passed > JUMP_MS || this.#clock.isHidden()) {
      // Nobody knows who else slept: the silence begins anew.
      operation.silentMs = 0;
      this.stall = null;
      return;
    }
    operation.silentMs += passed;
    this.seconds = Math.floor(operation.silentMs / 1000);
    if (this.stall !== null || operation.silentMs < this.#limitOf(operation)) return;
    this.stall = { kind: operation.kind, seconds: this.seconds };
    this.#onstall();
  }

  #hear(operation: Operation): void {
    if (operation.step !== 'wait') {
      operation.longestMs = Math.max(operation.longestMs, operation.silentMs);
      this.#longestMs = Math.max(this.#longestMs, operation.silentMs);
    }
    operation.silentMs = 0;
    operation.patienceMs = 0;
    if (this.#operation === operation) this.stall = null;
  }

  /** How long this device may be silent in this step: what was measured and what is expected. */
  #limitOf({ step, expectedMs, patienceMs }: Operation): number {
    const fair = TIMES * Math.max(this.#longestMs, expectedMs);
    return Math.max(FLOOR_MS[step], patienceMs, Math.min(fair, CEILING_MS));
  }
}

/** The step that a load is in. The manifest is read before the wait for whoever has the package. */
export function loadStep({ phase, file }: LoadProgress): Step {
  return phase === 'manifest' && file !== null ? 'wait' : 'load';
}

/** A sign of an answer: before the prompt's first part only what the engine expects is known. */
export function hearAnswer(heard: Heard, event: GenerateEvent): void {
  const isBegun = event.kind !== 'prefill' || event.done > 0;
  // After a failure of the GPU the model is loaded anew under the answer.
  if (event.kind === 'recovery') heard('load');
  else heard('answer', isBegun ? 0 : (event.remainingMs ?? 0));
}
