/** What the KV cache holds: which tokens, computed with which task's gates. */
export class Session {
  #task: string | null = null;
  #routed = false;
  #tokens: number[] = [];

  /** The task whose gates are in place; null before the first answer and after an error. */
  get task(): string | null {
    return this.#task;
  }

  get routed(): boolean {
    return this.#routed;
  }

  /** Tokens that the cache holds. */
  get length(): number {
    return this.#tokens.length;
  }

  /** A cache emptied for other gates: keys and values of the old ones are worth nothing. */
  begin(task: string, routed: boolean): void {
    this.#task = task;
    this.#routed = routed;
    this.#tokens = [];
  }

  /** Nothing is known any more, for instance because a pass failed half-way. */
  forget(): void {
    this.#task = null;
    this.#tokens = [];
  }

  /**
   * How many tokens at the start of a prompt the cache already holds. At least one token is left
   * to compute: its logits choose the first token of the answer.
   */
  reusable(prompt: readonly number[]): number {
    const most = Math.min(this.#tokens.length, prompt.length - 1);
    let same = 0;
    while (same < most && this.#tokens[same] === prompt[same]) same += 1;
    return same;
  }

  /** Whether the cache begins with these tokens. */
  startsWith(tokens: readonly number[]): boolean {
    return tokens.every((token, i) => this.#tokens[i] === token);
  }

  /** The cache holds these tokens now. */
  holds(tokens: readonly number[]): void {
    this.#tokens = [...tokens];
  }

  /** One more token has been computed. */
  append(token: number): void {
    this.#tokens.push(token);
  }
}
