import { describe, expect, it, vi } from 'vitest';
import { resting } from './polls.ts';

/** A function without a source, as Dawn's are. */
const native = (work: () => void): (() => void) => work.bind(null);

function made() {
  const soon = vi.fn((work: () => void) => work);
  const later = vi.fn<(work: () => void, ms: number) => () => void>((work) => work);
  const immediate = resting(
    soon as unknown as typeof setImmediate,
    later as unknown as typeof setTimeout,
  ) as unknown as (work: (...given: unknown[]) => void, ...given: unknown[]) => () => void;
  return { immediate, soon, later };
}

describe('immediates beside Dawn’s polls', () => {
  it('leaves other functions as they are', () => {
    const { immediate, soon, later } = made();
    const work = vi.fn(() => undefined);
    const other = (): void => work();
    immediate(other, 1, 2);
    expect(soon).toHaveBeenCalledWith(other, 1, 2);
    expect(later).not.toHaveBeenCalled();
  });

  it('polls at once for a while, then rests between polls, and begins anew with the next wait', () => {
    const { immediate, soon, later } = made();
    const clock = vi.spyOn(performance, 'now');
    let left = 3;
    let next: (() => void) | null = null;
    const poll = native(() => {
      left -= 1;
      next = left > 0 ? immediate(poll) : null;
    });
    clock.mockReturnValue(10);
    const first = immediate(poll);
    expect(soon).toHaveBeenCalledTimes(1);
    clock.mockReturnValue(10.4);
    first();
    expect(soon).toHaveBeenCalledTimes(2);
    clock.mockReturnValue(11);
    (next as unknown as () => void)();
    expect(soon).toHaveBeenCalledTimes(2);
    expect(later).toHaveBeenCalledTimes(1);
    expect(later.mock.calls[0]?.[1]).toBeGreaterThan(0);
    (next as unknown as () => void)();
    expect(next).toBeNull();
    immediate(poll);
    expect(soon).toHaveBeenCalledTimes(3);
    clock.mockRestore();
  });

  it('is over with a poll that throws', () => {
    const { immediate, soon, later } = made();
    const clock = vi.spyOn(performance, 'now').mockReturnValue(5);
    const bad = immediate(
      native(() => {
        throw new Error('bad');
      }),
    );
    expect(bad).toThrow('bad');
    clock.mockReturnValue(50);
    immediate(native(() => undefined));
    expect(soon).toHaveBeenCalledTimes(2);
    expect(later).not.toHaveBeenCalled();
    clock.mockRestore();
  });

  it('is what tests run with', () => {
    expect(globalThis.setImmediate.name).toBe('rest');
  });
});
