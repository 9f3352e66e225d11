import { Failure, failureName } from '../failure.ts';
import type { EngineApi, GenerateEvent, SamplingSettings } from '../worker/api.ts';
import {
  type Answer,
  assistantTurn,
  type AssistantTurn,
  type ChatTurn,
  keptTurns,
  newAnswer,
  type NotKept,
  promptTurns,
  type Records,
  rememberMarks,
  restoredTurns,
  userTurn,
} from './conversation.ts';
import { OncePerFrame } from './frame.ts';
import { recall, remember } from './memory.ts';
import { enterRisk, leaveRisk } from './risk.ts';
import type { TaskName } from './tasks.ts';
import { troubleOf } from './trouble.ts';

/** What a chat needs of the rest of the page. */
export interface ChatOptions {
  readonly task: TaskName;
  readonly engine: Pick<EngineApi, 'generate' | 'stop'>;
  readonly records: Records;
  /** The sampling to use; null while there is no model to ask. */
  readonly sampling: () => SamplingSettings | null;
  readonly seed: () => number;
  /** Runs work before the next paint; a test hands in its own clock. */
  readonly request?: (run: () => void) => void;
}

/** How far the prompt is read; remainingMs is null while nobody knows. */
export interface Reading {
  readonly done: number;
  readonly total: number;
  readonly remainingMs: number | null;
}

export type ChatPhase = 'idle' | 'prefill' | 'decode' | 'stopping';
export type ChatStatus = 'none' | 'started' | 'finished' | 'stopped' | 'failed';

/** A partial answer is kept this often, so that a page that dies loses at most that. */
const KEEP_EVERY_MS = 1000;

/** One conversation of one task: what the page shows, and what it may do next. */
export class Chat {
  readonly task: TaskName;
  turns = $state<ChatTurn[]>([]);
  draft = $state('');
  phase = $state<ChatPhase>('idle');
  /** Tokens of the prompt read so far, and how long the rest may take. */
  prefill = $state<Reading | null>(null);
  /** The GPU failed and the model is being loaded anew under the running answer. */
  isRecovering = $state(false);
  /** The last boundary event, for the status region. */
  status = $state<ChatStatus>('none');
  /** Why the conversation is not kept on this device; null where it is. */
  notKept = $state<NotKept | null>(null);
  /** The conversation that "new conversation" put away, until the next question. */
  putAway = $state<ChatTurn[]>([]);
  readonly isRunning = $derived(this.phase !== 'idle');
  readonly questions = $derived(
    this.turns.filter((turn) => turn.role === 'user').map((turn) => turn.text),
  );
  readonly #options: ChatOptions;
  #lastKept = 0;
  #answering: Promise<void> = Promise.resolve();

  constructor(options: ChatOptions) {
    this.#options = options;
    this.task = options.task;
    this.draft = recall(`draft.${this.task}`) ?? '';
  }

  /** Brings back what this browser kept. A question asked in the meantime wins. */
  async restore(): Promise<void> {
    try {
      const kept = await this.#options.records.load(this.task);
      if (kept && this.turns.length === 0) this.turns = restoredTurns(this.task, kept.turns);
    } catch (error) {
      this.notKept = failureName(error);
      troubleOf(error);
    }
  }

  keepDraft(): void {
    remember(`draft.${this.task}`, this.draft === '' ? null : this.draft);
  }

  /** Asks the draft. Resolves when the answer has ended; false where nothing could be asked. */
  async send(): Promise<boolean> {
    const text = this.draft.trim();
    if (text === '' || this.isRunning || this.#options.sampling() === null) return false;
    this.turns.push(userTurn(text));
    this.putAway = [];
    this.draft = '';
    this.keepDraft();
    await this.#run(null);
    return true;
  }

  /** Answers the last question again. The answer before stays and can be looked at. */
  async regenerate(): Promise<void> {
    const last = this.turns.at(-1);
    if (!last || this.isRunning || this.#options.sampling() === null) return;
    await this.#run(last.role === 'assistant' ? last : null);
  }

  /** Ends the running answer: what is there stays, marked as stopped. */
  async stop(): Promise<void> {
    if (this.phase !== 'prefill' && this.phase !== 'decode') return;
    this.phase = 'stopping';
    try {
      await this.#options.engine.stop();
    } catch (error) {
      troubleOf(error); // the answer itself ends with its own failure
    }
  }

  /** Shows another of the answers that a question got. */
  show(turn: AssistantTurn, index: number): void {
    if (this.isRunning || index < 0 || index >= turn.answers.length) return;
    turn.shown = index;
    void this.#keep();
  }

  /** Begins anew, once a running answer has stopped. It can be taken back until the next question. */
  async startAnew(): Promise<void> {
    await this.stop();
    await this.#answering;
    if (this.isRunning || this.turns.length === 0) return;
    this.putAway = this.turns;
    this.turns = [];
    this.status = 'none';
    rememberMarks(this.task, []);
    try {
      await this.#options.records.clear(this.task);
    } catch (error) {
      this.notKept = troubleOf(error).name;
    }
  }

  async takeBack(): Promise<void> {
    if (this.isRunning || this.putAway.length === 0) return;
    this.turns = this.putAway;
    this.putAway = [];
    await this.#keep();
  }

  #run(turn: AssistantTurn | null): Promise<void> {
    this.#answering = this.#answer(turn);
    return this.#answering;
  }

  /** One answer: to the last question, as another try in `turn` where there is one. */
  async #answer(turn: AssistantTurn | null): Promise<void> {
    const sampling = this.#options.sampling();
    if (!sampling) return;
    const prompt = promptTurns(turn ? this.turns.slice(0, -1) : this.turns);
    const answer = this.#begin(turn);
    this.phase = 'prefill';
    this.prefill = null;
    this.status = 'started';
    // The question is kept before the model starts on it.
    await this.#keep();
    let text = '';
    let seen: Reading | null = null;
    let recovering = false;
    const paint = new OncePerFrame(() => {
      this.prefill = seen;
      this.isRecovering = recovering;
      if (text !== '' && this.phase === 'prefill') this.phase = 'decode';
      answer.text = text;
      if (this.#isTimeToKeep()) void this.#keep();
    }, this.#options.request);
    const onEvent = (event: GenerateEvent): void => {
      recovering = event.kind === 'recovery' || (recovering && event.kind === 'prefill');
      if (event.kind === 'prefill') {
        const { done, total, remainingMs } = event;
        seen = { done, total, remainingMs };
      } else if (event.kind === 'piece') text += event.text;
      paint.ask();
    };
    try {
      if (this.#isStopping()) throw new Failure('Cancelled', 'stopped before it began');
      enterRisk('answer');
      const request = { task: this.task, turns: prompt, sampling, seed: this.#options.seed() };
      const result = await this.#options.engine.generate(request, onEvent);
      text = result.text === '' ? text : result.text;
      answer.facts = {
        outputTokens: result.outputTokens,
        promptTokens: result.promptTokens,
        reusedTokens: result.reusedTokens,
        droppedQuestions: result.droppedQuestions,
        recoveries: result.recoveries,
        decodeTokensPerSecond: result.decodeTokensPerSecond,
        finish: result.finish,
      };
      answer.state = result.finish === 'cancelled' ? 'stopped' : 'done';
    } catch (error) {
      this.#breakOff(answer, error);
    } finally {
      leaveRisk();
    }
    paint.now();
    this.#end(answer);
    await this.#keep();
  }

  #begin(turn: AssistantTurn | null): Answer {
    if (!turn) {
      this.turns.push(assistantTurn(newAnswer()));
    } else {
      turn.answers.push(newAnswer());
      turn.shown = turn.answers.length - 1;
    }
    // Read back through the proxy: only changes made through it are seen by the page.
    const last = this.turns.at(-1);
    const answer = last?.role === 'assistant' ? last.answers[last.shown] : undefined;
    if (!answer) throw new Error('the answer that was just begun is gone');
    return answer;
  }

  #breakOff(answer: Answer, error: unknown): void {
    if (failureName(error) === 'Cancelled') {
      answer.state = 'stopped';
      return;
    }
    answer.state = 'failed';
    answer.trouble = troubleOf(error);
  }

  #end(answer: Answer): void {
    this.phase = 'idle';
    this.prefill = null;
    this.isRecovering = false;
    this.status =
      answer.state === 'stopped' ? 'stopped' : answer.state === 'failed' ? 'failed' : 'finished';
  }

  #isStopping(): boolean {
    return this.phase === 'stopping';
  }

  #isTimeToKeep(): boolean {
    return performance.now() - this.#lastKept >= KEEP_EVERY_MS;
  }

  async #keep(): Promise<void> {
    this.#lastKept = performance.now();
    try {
      await this.#options.records.save(this.task, keptTurns(this.turns));
      rememberMarks(this.task, this.turns);
      this.notKept = null;
    } catch (error) {
      this.notKept = troubleOf(error).name;
    }
  }
}
