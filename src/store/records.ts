import { createStore, del, get, update, type UseStore } from 'idb-keyval';
import * as v from 'valibot';
import { Failure } from '../failure.ts';

/** Conversations that outlive the page: the last one of each task, on this device only. */

const SCHEMA = 1;

const record = v.strictObject({
  schema: v.literal(SCHEMA),
  task: v.string(),
  updated: v.string(), // ISO 8601, UTC
  turns: v.array(v.strictObject({ role: v.picklist(['user', 'assistant']), text: v.string() })),
});

export type Conversation = Omit<v.InferOutput<typeof record>, 'schema'>;
type SavedTurn = Conversation['turns'][number];

/** The kept conversation of a task; null where there is none that this edition can read. */
export async function loadConversation(task: string): Promise<Conversation | null> {
  const found: unknown = await named(() => get<unknown>(task, place()));
  const result = v.safeParse(record, found);
  if (!result.success) return null;
  const { updated, turns } = result.output;
  return { task, updated, turns };
}

/**
 * Keeps a conversation in the place of the task's last one.
 * @returns false where a newer edition of the app wrote the record: it is left alone
 * @throws Failure StorageFull, StorageBlocked
 */
export async function saveConversation(
  task: string,
  turns: readonly Readonly<SavedTurn>[],
): Promise<boolean> {
  const copy = turns.map(({ role, text }) => ({ role, text }));
  const updated = new Date().toISOString();
  let saved = false;
  await named(() =>
    update<unknown>(
      task,
      (old) => {
        saved = !isNewer(old);
        return saved ? { schema: SCHEMA, task, updated, turns: copy } : old;
      },
      place(),
    ),
  );
  return saved;
}

/** Forgets the conversation of a task, whoever wrote it: the person asked for it. */
export async function clearConversation(task: string): Promise<void> {
  await named(() => del(task, place()));
}

function isNewer(old: unknown): boolean {
  const known = v.safeParse(v.object({ schema: v.number() }), old);
  return known.success && known.output.schema > SCHEMA;
}

let opened: UseStore | null = null;

/** Opened at first use: no database is made before there is something to keep. */
function place(): UseStore {
  opened ??= createStore('pediatricsgpt', 'conversations');
  return opened;
}

async function named<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const name = error instanceof DOMException ? error.name : '';
    const message = error instanceof Error ? error.message : '';
    if (name === 'QuotaExceededError') throw new Failure('StorageFull', message, { cause: error });
    if (name === 'SecurityError' || name === 'InvalidStateError') {
      throw new Failure('StorageBlocked', message, { cause: error });
    }
    throw error;
  }
}
