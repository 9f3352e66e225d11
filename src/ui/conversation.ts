import type { FailureName } from '../failure.ts';
import { type Message, pathTo, siblingsOf } from '../store/records.ts';
import type { GenerateResult, Turn } from '../worker/api.ts';
import type { Trouble } from './trouble.ts';

/** What is known of an answer once it has ended, until the page is left. */
type AnswerFacts = Pick<
  GenerateResult,
  | 'outputTokens'
  | 'promptTokens'
  | 'reusedTokens'
  | 'droppedQuestions'
  | 'recoveries'
  | 'decodeTokensPerSecond'
  | 'finish'
>;

/** A message as the page has it in hand: what is kept of it, and what is not. */
export interface ChatMessage extends Omit<Message, 'state'> {
  /** `partial`: the page went away while it was written. */
  state: 'streaming' | Message['state'];
  trouble: Trouble | null;
  facts: AnswerFacts | null;
}

/** One try at answering a question; asking again adds another and keeps this one. */
export type Answer = ChatMessage;

export interface UserTurn {
  readonly id: string;
  readonly role: 'user';
  readonly text: string;
  /** Every version of the question, the first one first. */
  readonly questions: readonly ChatMessage[];
  readonly shown: number;
}

export interface AssistantTurn {
  readonly id: string;
  readonly role: 'assistant';
  readonly answers: readonly Answer[];
  /** Index of the answer that is shown and that the conversation goes on from. */
  readonly shown: number;
}

export type ChatTurn = UserTurn | AssistantTurn;

/** The time, as records have it. */
export const nowText = (): string => new Date().toISOString();

/** A message that is not kept yet. */
export function newMessage(
  role: Message['role'],
  parent: string | null,
  text: string,
): ChatMessage {
  return {
    id: crypto.randomUUID(),
    parent,
    role,
    text,
    state: role === 'user' ? 'done' : 'streaming',
    time: nowText(),
    model: null,
    backend: null,
    variant: null,
    finish: null,
    feedback: null,
    trouble: null,
    facts: null,
  };
}

export function shownAnswer(turn: AssistantTurn): Answer | undefined {
  return turn.answers[turn.shown];
}

/** The branch that ends at `leaf`, as turns that know of their siblings. */
export function turnsOf(messages: readonly ChatMessage[], leaf: string | null): ChatTurn[] {
  return pathTo(messages, leaf).map((message): ChatTurn => {
    const siblings = siblingsOf(messages, message);
    const shown = siblings.indexOf(message);
    // The place in the tree names the turn, so that another branch is shown in the same place.
    const id = `${message.role}-after-${message.parent ?? 'nothing'}`;
    return message.role === 'user'
      ? { id, role: 'user', text: message.text, questions: siblings, shown }
      : { id, role: 'assistant', answers: siblings, shown };
  });
}

/**
 * The turns as the model gets them: questions with their shown answers, ending with the last
 * question. A question that never got a word of answer is left out, for turns must alternate.
 * `facts`: what is known of the child, in one line.
 */
export function promptTurns(turns: readonly ChatTurn[], facts = ''): Turn[] {
  const prompt: Turn[] = [];
  for (const turn of turns) {
    const previous = prompt.at(-1);
    if (turn.role === 'user') {
      if (previous?.role === 'user') prompt.pop();
      prompt.push({ role: 'user', text: turn.text });
    } else if (previous?.role === 'user') {
      const text = shownAnswer(turn)?.text.trim() ?? '';
      if (text !== '') prompt.push({ role: 'assistant', text });
    }
  }
  const first = prompt[0];
  if (first === undefined || facts === '') return prompt;
  // Told with the first question, which stays however long the conversation gets.
  return [{ ...first, text: `${facts}\n${first.text}`, pinned: true }, ...prompt.slice(1)];
}

/** A message as it is kept: an answer that still runs is one that was interrupted, should it be. */
export function keptMessage(message: ChatMessage): Message {
  const { id, parent, role, text, time, model, backend, variant, finish, feedback } = message;
  const state = message.state === 'streaming' ? 'partial' : message.state;
  const mark = feedback === null ? null : { ...feedback };
  return { id, parent, role, text, state, time, model, backend, variant, finish, feedback: mark };
}

/** Why a conversation is not kept. */
export type NotKept = FailureName | 'Bug';
