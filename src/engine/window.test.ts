import { describe, expect, it } from 'vitest';
import type { Turn } from '../worker/api.ts';
import { turnsInWindow, tokensOf, type Measured } from './window.ts';

/** n exchanges of 10 + 10 tokens and a last question of 10. */
function talk(exchanges: number, pinned: readonly number[] = []): Turn[] {
  return Array.from({ length: 2 * exchanges + 1 }, (_, i) => ({
    role: i % 2 === 0 ? ('user' as const) : ('assistant' as const),
    text: String(i),
    ...(pinned.includes(i) ? { pinned: true } : {}),
  }));
}
const measured = (turns: readonly Turn[], last = 10): Measured => ({
  system: 5,
  separator: 1,
  turns: turns.map((_, i) => (i === turns.length - 1 ? last : 10)),
});
const room = { most: 100, target: 60 };

describe('what the model sees of a long conversation', () => {
  it('is all of it while it fits', () => {
    const turns = talk(4); // 5 + 90 + 4 = 99
    expect(tokensOf(turns, [0, 1, 2, 3, 4, 5, 6, 7, 8], measured(turns))).toBe(99);
    expect(turnsInWindow(turns, measured(turns), room)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
  });

  it('loses the oldest exchanges, and enough of them for the next questions to fit', () => {
    const turns = talk(5);
    const kept = turnsInWindow(turns, measured(turns), room);
    expect(kept).toEqual([6, 7, 8, 9, 10]); // 5 + 50 + 2 = 57
    // the next question keeps the same start: the KV cache is worth something
    const next = talk(6);
    expect(turnsInWindow(next, measured(next), room)).toEqual([6, 7, 8, 9, 10, 11, 12]);
  });

  it('decides the same way whether it is asked once or after every question', () => {
    for (let n = 1; n < 30; n++) {
      const turns = talk(n);
      const kept = turnsInWindow(turns, measured(turns), room);
      expect(tokensOf(turns, kept, measured(turns))).toBeLessThanOrEqual(room.most);
      const before = talk(n - 1);
      const earlier = turnsInWindow(before, measured(before), room);
      const stays = kept[0] === earlier[0];
      expect(stays || kept.length < earlier.length + 2).toBe(true);
      expect(kept.at(-1)).toBe(turns.length - 1);
    }
  });

  it('keeps pinned exchanges', () => {
    const turns = talk(5, [2]);
    expect(turnsInWindow(turns, measured(turns), room)).toEqual([2, 3, 8, 9, 10]);
    const asked = talk(5, [3]); // pinned by its answer
    expect(turnsInWindow(asked, measured(asked), room)).toEqual([2, 3, 8, 9, 10]);
  });

  it('keeps the last question even where nothing helps', () => {
    const turns = talk(3);
    expect(turnsInWindow(turns, measured(turns, 500), room)).toEqual([6]);
    const pinned = talk(3, [0, 2, 4]);
    expect(turnsInWindow(pinned, measured(pinned, 500), room)).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  it('has no answer before its question where a conversation starts with one', () => {
    const turns: Turn[] = [{ role: 'assistant', text: 'hello' }, ...talk(5)];
    const kept = turnsInWindow(turns, measured(turns), room);
    expect(kept.at(-1)).toBe(turns.length - 1);
    expect(tokensOf(turns, kept, measured(turns))).toBeLessThanOrEqual(room.most);
  });
});
