import { Failure } from '../failure.ts';
import type { Choice } from './sampling.ts';

/** What a run needs of the model. */
export interface RunHooks {
  /** Most steps that are under way at once. */
  readonly depth: number;
  /** Queues the choice after the logits that are there, or with `step` a whole decode step. */
  readonly submit: (step: boolean) => Promise<Choice>;
  /** Called when nothing is under way any more. */
  readonly ended: () => void;
}

/**
 * Tokens of an answer, chosen on the GPU: further steps are queued before the first one's token is
 * known, as each takes its token from the GPU's own memory.
 */
export class TokenRun {
  readonly #hooks: RunHooks;
  readonly #most: number;
  readonly #underWay: Promise<Choice>[] = [];
  #queued = 0;
  #ended = false;

  /** @param most tokens that may be asked for; no step is queued beyond them */
  constructor(most: number, hooks: RunHooks) {
    this.#most = most;
    this.#hooks = hooks;
  }

  /**
   * The next token. After the first, one decode step has ended with it.
   * @throws Failure WrongNumbers for logits that are not finite, DeviceLost; the run has ended then
   */
  async next(): Promise<number> {
    if (this.#ended) throw new RangeError('the run of tokens has ended');
    while (this.#underWay.length < this.#hooks.depth && this.#queued < this.#most) {
      const choice = this.#hooks.submit(this.#queued > 0);
      choice.catch(() => undefined); // told where the choice is waited for, below or never
      this.#underWay.push(choice);
      this.#queued += 1;
    }
    const first = this.#underWay.shift();
    if (first === undefined) throw new RangeError(`this run has no more than ${this.#most} tokens`);
    try {
      const { token, wrong } = await first;
      if (wrong === null) return token;
      throw new Failure('WrongNumbers', `logit ${wrong.id} is ${wrong.value}`);
    } catch (error) {
      await this.end();
      throw error;
    }
  }

  /**
   * Waits for what is under way: surplus steps that nobody asked the tokens of. The cache then
   * holds their keys and values too.
   * @returns how many steps these were
   */
  async end(): Promise<number> {
    if (this.#ended) return 0;
    this.#ended = true;
    const surplus = this.#underWay.splice(0);
    await Promise.allSettled(surplus);
    this.#hooks.ended();
    return surplus.length;
  }
}
