import * as v from 'valibot';
import type { Consultation } from './shapes.ts';
import { SCHEMA } from './shapes.ts';
import { titleOf } from './titles.ts';

/** Schema 1, of the first edition: one conversation per task, under the task's name. */

const legacyShape = v.strictObject({
  schema: v.literal(1),
  task: v.string(),
  updated: v.string(),
  turns: v.array(v.strictObject({ role: v.picklist(['user', 'assistant']), text: v.string() })),
});
export type LegacyConversation = v.InferOutput<typeof legacyShape>;

/** The tasks that the first edition kept conversations of. */
export const legacyTasks = ['medkqa', 'evidiag', 'trerecom'] as const;

/**
 * Left in the place of what was moved. The first edition writes over nothing with a higher schema, so
 * a window of it that is still open does not begin another copy.
 */
export const MOVED = { schema: SCHEMA, moved: true } as const;

/** How an answer of the first edition ended, which it kept beside the words. */
export type LegacyMarks = readonly ('' | 'done' | 'stopped' | 'failed')[];

/** A stored value as a conversation of the first edition; null where it is none. */
export function legacyOf(stored: unknown): LegacyConversation | null {
  const result = v.safeParse(legacyShape, stored);
  return result.success ? result.output : null;
}

/**
 * The same conversation as schema 2. The ids follow from what is kept, so that doing it again makes no
 * second copy. Turns that do not alternate, which that edition never wrote, are joined.
 */
export function upgraded(
  { task, updated, turns }: LegacyConversation,
  now: Date,
  marks: LegacyMarks = [],
): Consultation | null {
  const stamp = Date.parse(updated);
  const time = (Number.isNaN(stamp) ? now : new Date(stamp)).toISOString();
  const id = `v1-${task.toLowerCase().replace(/[^a-z0-9]/g, '')}-${Date.parse(time).toString(36)}`;
  const messages: Consultation['messages'] = [];
  turns.forEach(({ role, text }, i) => {
    const last = messages.at(-1);
    if (!last && role === 'assistant') return; // an answer to nothing
    if (last?.role === role) {
      last.text = `${last.text}\n${text}`;
      return;
    }
    const mark = marks.length === turns.length ? marks[i] : 'done';
    messages.push({
      id: `${id}-${i}`,
      parent: last?.id ?? null,
      role,
      text,
      state: role === 'assistant' && (mark === 'stopped' || mark === 'failed') ? mark : 'done',
      time,
      model: null,
      backend: null,
      variant: null,
      finish: null,
      feedback: null,
    });
  });
  const leaf = messages.at(-1);
  if (!leaf) return null;
  return {
    id,
    child: null,
    task,
    title: titleOf(messages),
    created: time,
    updated: time,
    intake: null,
    messages,
    leaf: leaf.id,
  };
}
