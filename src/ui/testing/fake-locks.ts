import type { Locks } from '../risk.ts';

/** The browser's locks as far as nobody waits for one: each is held until its work ends. */
export class FakeLocks implements Locks {
  readonly #held = new Set<string>();

  async request(name: string, work: () => Promise<void>): Promise<void> {
    this.#held.add(name);
    await work();
    this.#held.delete(name);
  }

  query(): Promise<{ held: { name: string }[] }> {
    return Promise.resolve({ held: this.names.map((name) => ({ name })) });
  }

  get names(): readonly string[] {
    return [...this.#held];
  }

  /** Somebody else holds it. */
  hold(name: string): void {
    this.#held.add(name);
  }

  /** Who held it is dead. */
  free(name: string): void {
    this.#held.delete(name);
  }
}

/** The marks of all windows. */
export function marks(): string[] {
  const keys = Array.from({ length: localStorage.length }, (_, i) => localStorage.key(i) ?? '');
  const ours = keys.filter((key) => key.startsWith('pediatricsgpt.risk'));
  return ours.map((key) => localStorage.getItem(key) ?? '');
}
