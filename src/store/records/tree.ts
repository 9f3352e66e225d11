import type { Consultation, Message } from './shapes.ts';

/**
 * A consultation as a tree: an edited question and another answer are siblings of what was there
 * before. Nothing here changes a message.
 */

type Node = Pick<Message, 'id' | 'parent'>;

/** The messages from the first question to `leaf`; empty where there is no such leaf. */
export function pathTo<T extends Node>(messages: readonly T[], leaf: string | null): T[] {
  const byId = new Map(messages.map((message) => [message.id, message]));
  const path: T[] = [];
  let at = leaf === null ? undefined : byId.get(leaf);
  while (at && path.length <= messages.length) {
    path.push(at);
    at = at.parent === null ? undefined : byId.get(at.parent);
  }
  return path.reverse();
}

/** Messages with the same parent, in the order in which they came: the branches of one place. */
export function siblingsOf<T extends Node>(messages: readonly T[], message: Node): T[] {
  return messages.filter(({ parent }) => parent === message.parent);
}

/** The end of the newest branch below a message: where the conversation went on last. */
export function newestLeaf(messages: readonly Node[], from: string): string {
  const newest = new Map<string, string>(); // parent -> its last child
  for (const { id, parent } of messages) if (parent !== null) newest.set(parent, id);
  let at = from;
  for (let i = 0; i < messages.length; i += 1) {
    const next = newest.get(at);
    if (next === undefined) return at;
    at = next;
  }
  return at;
}

/** What is wrong with a tree, for a developer; null where nothing is. */
export function treeFault(consultation: Consultation): string | null {
  const roles = new Map<string, Message['role']>();
  for (const { id, parent, role } of consultation.messages) {
    if (roles.has(id)) return `message ${id} is there twice`;
    if (parent !== null) {
      const before = roles.get(parent);
      if (before === undefined) return `message ${id} stands before its parent, or has none`;
      if (before === role) return `message ${id} follows one of the same role`;
    } else if (role !== 'user') return `message ${id} is an answer without a question`;
    roles.set(id, role);
  }
  const { leaf, messages } = consultation;
  if (leaf === null) return messages.length === 0 ? null : 'no branch is selected';
  return roles.has(leaf) ? null : 'the selected message is not there';
}

/** A message of two writers: what has ended goes before what has not, more words before fewer. */
function richer(ours: Message, theirs: Message): Message {
  if (ours.state !== 'partial') return ours;
  return theirs.state !== 'partial' || theirs.text.length > ours.text.length ? theirs : ours;
}

/**
 * What a window has in hand, put into what is stored: every message of both, for another window may
 * have written since. Title, child and intake are the stored ones, they are changed by themselves.
 */
export function merged(ours: Consultation, stored: Consultation): Consultation {
  const own = new Map(ours.messages.map((message) => [message.id, message]));
  const messages = stored.messages.map((message) => {
    const mine = own.get(message.id);
    own.delete(message.id);
    return mine ? richer(mine, message) : message;
  });
  messages.push(...own.values());
  return { ...stored, messages, leaf: ours.leaf ?? stored.leaf };
}
