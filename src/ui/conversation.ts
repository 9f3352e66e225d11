import type { FailureName } from '../failure.ts';
import type { GenerateResult, Turn } from '../worker/api.ts';
import { recallJson, remember } from './memory.ts';
import type { Trouble } from './trouble.ts';

/** What is known of an answer once it has ended. */
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

type AnswerState = 'streaming' | 'done' | 'stopped' | 'failed';

/** One try at answering a question; asking again adds another and keeps this one. */
export interface Answer {
  text: string;
  state: AnswerState;
  trouble: Trouble | null;
  facts: AnswerFacts | null;
}

export interface UserTurn {
  readonly id: string;
  readonly role: 'user';
  readonly text: string;
}

export interface AssistantTurn {
  readonly id: string;
  readonly role: 'assistant';
  answers: Answer[];
  /** Index of the answer that is shown and that the conversation goes on from. */
  shown: number;
}

export type ChatTurn = UserTurn | AssistantTurn;

let lastId = 0;

/** Names a turn on this page; ids are not kept. */
function newId(): string {
  lastId += 1;
  return `turn-${String(lastId)}`;
}

export function userTurn(text: string): UserTurn {
  return { id: newId(), role: 'user', text };
}

export function assistantTurn(answer: Answer): AssistantTurn {
  return { id: newId(), role: 'assistant', answers: [answer], shown: 0 };
}

export function newAnswer(): Answer {
  return { text: '', state: 'streaming', trouble: null, facts: null };
}

export function shownAnswer(turn: AssistantTurn): Answer | undefined {
  return turn.answers[turn.shown];
}

/**
 * The turns as the model gets them: questions with their shown answers, ending with the last
 * question. A question that never got a word of answer is left out, for turns must alternate.
 */
export function promptTurns(turns: readonly ChatTurn[]): Turn[] {
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
  return prompt;
}

/** The turns as they are kept: only what was said. */
export function keptTurns(turns: readonly ChatTurn[]): Turn[] {
  return turns.map((turn) =>
    turn.role === 'user'
      ? { role: 'user', text: turn.text }
      : { role: 'assistant', text: shownAnswer(turn)?.text ?? '' },
  );
}

const marksName = (task: string): string => `marks.${task}`;

/**
 * Remembers beside the kept words how each answer ended: one mark per turn. An answer that is
 * still running counts as stopped, for that is what it is when the page is gone.
 */
export function rememberMarks(task: string, turns: readonly ChatTurn[]): void {
  const marks = turns.map((turn) => {
    if (turn.role === 'user') return '';
    const state = shownAnswer(turn)?.state ?? 'done';
    return state === 'streaming' ? 'stopped' : state;
  });
  remember(marksName(task), marks.length === 0 ? null : JSON.stringify(marks));
}

/** Kept words and their marks as turns again. Marks of another conversation are left out. */
export function restoredTurns(task: string, kept: readonly Turn[]): ChatTurn[] {
  const found = recallJson(marksName(task));
  const marks: unknown[] = Array.isArray(found) && found.length === kept.length ? found : [];
  return kept.map(({ role, text }, i) => {
    if (role === 'user') return userTurn(text);
    const mark = marks[i];
    const state = mark === 'stopped' || mark === 'failed' ? mark : 'done';
    return assistantTurn({ text, state, trouble: null, facts: null });
  });
}

/** Keeping conversations: `store/records.ts`, or a test's own. */
export interface Records {
  load(task: string): Promise<{ readonly turns: readonly Turn[] } | null>;
  save(task: string, turns: readonly Turn[]): Promise<unknown>;
  clear(task: string): Promise<void>;
}

/** Why a conversation is not kept. */
export type NotKept = FailureName | 'Bug';
