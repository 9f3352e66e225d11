import type { Message } from './shapes.ts';

const TITLE_LENGTH = 30;

/** A title nobody has to think of: the beginning of the first question, on one line. */
export function titleOf(messages: readonly Pick<Message, 'role' | 'text'>[]): string {
  const first = messages.find(({ role }) => role === 'user')?.text ?? '';
  const line = [...first.replace(/\s+/g, ' ').trim()];
  return line.length > TITLE_LENGTH
    ? `${line.slice(0, TITLE_LENGTH - 1).join('')}…`
    : line.join('');
}
