import type { Turn } from '../worker/api.ts';

/** Tokens of a conversation by parts: they add up, since template pieces are tokenised apart. */
export interface Measured {
  readonly system: number;
  readonly separator: number; // before every question but the first that is kept
  readonly turns: readonly number[]; // per turn, without the separator
}

export interface Room {
  /** Most tokens that the prompt may have. */
  readonly most: number;
  /** Where something has to go, so much goes that at most these tokens stay. */
  readonly target: number;
}

/**
 * Which turns the model gets to see: all of them while they fit; else the oldest exchanges that
 * are not pinned go until no more than `target` tokens stay, so that the next ones fit without a
 * change and the KV cache keeps its worth. The last question always stays, whatever its size.
 *
 * Pure, and the same for the same conversation: earlier questions are decided first, as they
 * were when they were asked.
 * @returns numbers of the turns that stay, ascending
 */
export function turnsInWindow(turns: readonly Turn[], measured: Measured, room: Room): number[] {
  let kept: number[] = [];
  turns.forEach((turn, i) => {
    kept.push(i);
    if (turn.role !== 'user' || tokensOf(turns, kept, measured) <= room.most) return;
    kept = shortened(turns, kept, measured, room.target);
  });
  return kept;
}

/** The tokens that these turns make. */
export function tokensOf(
  turns: readonly Turn[],
  kept: readonly number[],
  { system, separator, turns: sizes }: Measured,
): number {
  const questions = kept.filter((i) => turns[i]?.role === 'user').length;
  const own = kept.reduce((sum, i) => sum + (sizes[i] ?? 0), 0);
  return system + own + Math.max(0, questions - 1) * separator;
}

function shortened(
  turns: readonly Turn[],
  kept: readonly number[],
  measured: Measured,
  target: number,
): number[] {
  let left = [...kept];
  while (tokensOf(turns, left, measured) > target) {
    const without = withoutOldest(turns, left);
    if (without === null) break;
    left = without;
  }
  return left;
}

/** Without the oldest exchange that may go; null where none may. */
function withoutOldest(turns: readonly Turn[], kept: readonly number[]): number[] | null {
  for (let at = 0; at < kept.length - 1; at++) {
    if (turns[kept[at] ?? -1]?.role !== 'user') continue;
    let end = at + 1;
    while (end < kept.length && turns[kept[end] ?? -1]?.role !== 'user') end += 1;
    if (end === kept.length) return null; // the last question
    const exchange = kept.slice(at, end);
    if (exchange.some((i) => turns[i]?.pinned === true)) continue;
    return [...kept.slice(0, at), ...kept.slice(end)];
  }
  return null;
}
