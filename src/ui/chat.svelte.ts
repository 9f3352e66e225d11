import { Failure, failureName } from '../failure.ts';
import type { Consultation, Feedback, Intake, Listing, RecordStore } from '../store/records.ts';
import type { EngineApi, GenerateEvent, SamplingSettings } from '../worker/api.ts';
import { Thread } from './consult/thread.svelte.ts';
import {
  type Answer,
  type AssistantTurn,
  newMessage,
  type NotKept,
  promptTurns,
  turnsOf,
  type UserTurn,
} from './conversation.ts';
import { OncePerFrame } from './frame.ts';
import { recall, remember } from './memory.ts';
import { intakeText } from './intake/intake.ts';
import { risk } from './risk.ts';
import type { TaskName } from './tasks.ts';
import { troubleOf } from './trouble.ts';

/** What a chat needs of the rest of the page. */
export interface ChatOptions {
  readonly task: TaskName;
  readonly engine: Pick<EngineApi, 'generate' | 'stop'>;
  readonly records: RecordStore;
  /** The sampling to use; null while there is no model to ask. */
  readonly sampling: () => SamplingSettings | null;
  readonly seed: () => number;
  /** A system text in the place of the package's; '' for that one. */
  readonly system?: () => string;
  /** The model that answers, to be kept with the answer. */
  readonly model?: () => string | null;
  /** Whom a new consultation is about. */
  readonly child?: () => string | null;
  /** Told when the list of consultations may have changed. */
  readonly onkept?: () => void;
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
/** What is asked of the model to go on with an answer that was interrupted. */
const GO_ON = '请从断开的地方接着说完。';

/** The conversation of one task that is open: what the page shows, and what it may do next. */
export class Chat {
  readonly task: TaskName;
  thread: Thread = $state.raw(new Thread(''));
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
  #before: Thread | null = $state.raw(null);
  readonly turns = $derived(this.thread.turns);
  readonly putAway = $derived(this.#before?.turns ?? []);
  readonly isRunning = $derived(this.phase !== 'idle');
  readonly questions = $derived(
    this.turns.filter((turn) => turn.role === 'user').map((turn) => turn.text),
  );
  /** What is known of the child, as the model is told of it; '' where nothing is. */
  readonly facts = $derived(this.thread.intake === null ? '' : intakeText(this.thread.intake));
  readonly #options: ChatOptions;
  #lastKept = 0;
  #answering: Promise<void> = Promise.resolve();
  #keeping: Promise<void> = Promise.resolve();

  constructor(options: ChatOptions) {
    this.#options = options;
    this.task = options.task;
    this.thread = this.#newThread();
    this.draft = recall(`draft.${this.task}`) ?? '';
  }

  /**
   * Brings back what this browser kept: the consultation that was open, else the newest one. A
   * question asked in the meantime wins, and is kept now. `list`: a listing that others use as well.
   */
  async restore(list: () => Promise<Listing> = () => this.#options.records.list()): Promise<void> {
    const { records } = this.#options;
    try {
      const state = await records.open();
      if (state === 'locked') return;
      if (this.turns.length > 0) {
        if (!this.isRunning) await this.#keep();
        return;
      }
      if (records.isEncrypted && this.draft === '') this.draft = await records.draft(this.task);
      const open = recall(this.#openName);
      if (open === '') return; // a new one had just begun
      const { entries } = await list();
      const entry = entries.find(({ id, task }) =>
        open === null ? task === this.task : id === open,
      );
      const kept = entry ? await records.consultation(entry.id) : null;
      if (kept && this.turns.length === 0) this.#take(new Thread(this.task, kept));
    } catch (error) {
      if (failureName(error) === 'RecordsLocked') return; // it is asked again once they are open
      this.notKept = failureName(error);
      troubleOf(error);
    }
  }

  /** Goes on with a consultation of this task; a running answer is stopped and kept first. */
  async resume(consultation: Consultation): Promise<void> {
    await this.#settle();
    this.#before = null;
    this.#take(new Thread(this.task, consultation));
  }

  /** Reads the consultation again: another window may have gone on with it. */
  async readAgain(): Promise<void> {
    const { thread } = this;
    if (this.isRunning || thread.messages.length === 0) return;
    try {
      const kept = await this.#options.records.consultation(thread.id);
      if (kept && this.thread === thread && !this.isRunning) {
        this.#take(new Thread(this.task, kept));
      }
    } catch (error) {
      if (failureName(error) === 'RecordsLocked') return;
      this.notKept = troubleOf(error).name;
    }
  }

  /** Takes everything that was said off the page: the records have been locked or deleted. */
  async close(): Promise<void> {
    await this.#settle();
    this.#before = null;
    this.draft = '';
    this.thread = this.#newThread();
    this.status = 'none';
    this.notKept = null;
  }

  /** The consultations that the page has in hand: the open one, and the one that was put away. */
  get inHand(): readonly Consultation[] {
    const threads = [this.thread, ...(this.#before ? [this.#before] : [])];
    return threads.filter(({ messages }) => messages.length > 0).map((one) => one.record());
  }

  keepDraft(): void {
    const { records } = this.#options;
    const { task, draft } = this;
    remember(`draft.${task}`, draft === '' || records.isEncrypted ? null : draft);
    if (!records.isEncrypted) return;
    // What is typed is no more for everybody's eyes than what was said.
    records.keepDraft(task, draft).catch((error: unknown) => {
      this.notKept = troubleOf(error).name;
    });
  }

  /** Asks the draft. Resolves when the answer has ended; false where nothing could be asked. */
  async send(): Promise<boolean> {
    const text = this.draft.trim();
    if (text === '' || !this.#canAsk()) return false;
    this.draft = '';
    this.keepDraft();
    await this.#ask(text, this.thread.end);
    return true;
  }

  /** Asks another version of a question. What followed the old one stays beside it. */
  async edit(turn: UserTurn, text: string): Promise<boolean> {
    const old = turn.questions[turn.shown];
    const question = text.trim();
    if (!old || question === '' || !this.#canAsk()) return false;
    await this.#ask(question, old.parent);
    return true;
  }

  /** Answers the last question again. The answer before stays and can be looked at. */
  async regenerate(): Promise<void> {
    const last = this.turns.at(-1);
    if (!last || !this.#canAsk()) return;
    const message = last.role === 'user' ? last.questions[last.shown] : last.answers[last.shown];
    const question = message?.role === 'assistant' ? message.parent : message?.id;
    if (question) await this.#run(question);
  }

  /** Asks the model to go on with the last answer, which was interrupted. */
  async goOn(): Promise<void> {
    if (this.#canAsk()) await this.#ask(GO_ON, this.thread.end);
  }

  /** Keeps what a running answer has said until now. */
  keepPartial(): Promise<void> {
    return this.#keep();
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

  /** Shows another branch: another answer to a question, or another version of a question. */
  show(turn: UserTurn | AssistantTurn, index: number): void {
    const branches = turn.role === 'user' ? turn.questions : turn.answers;
    const branch = branches[index];
    if (this.isRunning || !branch) return;
    this.thread.show(branch.id);
    void this.#keep();
  }

  /** Takes down what is known of the child; answers that are there stay as they are. */
  async setIntake(intake: Intake): Promise<void> {
    const { thread } = this;
    thread.intake = intake;
    if (thread.messages.length === 0) return; // kept with the first question
    try {
      await this.#options.records.setIntake(thread.id, intake);
    } catch (error) {
      this.notKept = troubleOf(error).name;
    }
  }

  /** What the person thinks of an answer. */
  async judge(answer: Answer, feedback: Feedback | null): Promise<void> {
    answer.feedback = feedback;
    await this.#keep();
  }

  /** Begins anew, once a running answer has stopped. It can be taken back until the next question. */
  async startAnew(): Promise<void> {
    await this.#settle();
    if (this.turns.length === 0) {
      this.thread = this.#newThread();
      return;
    }
    this.#before = this.thread;
    this.thread = this.#newThread();
    this.status = 'none';
    remember(this.#openName, '');
  }

  async takeBack(): Promise<void> {
    const before = this.#before;
    if (this.isRunning || !before) return;
    this.#before = null;
    this.#take(before);
    await this.#keep();
  }

  get #openName(): string {
    return `open.${this.task}`;
  }

  #newThread(): Thread {
    const thread = new Thread(this.task);
    thread.child = this.#options.child?.() ?? null;
    return thread;
  }

  #take(thread: Thread): void {
    this.thread = thread;
    this.status = 'none';
    this.notKept = null;
    remember(this.#openName, thread.id);
  }

  #canAsk(): boolean {
    return !this.isRunning && this.#options.sampling() !== null;
  }

  async #settle(): Promise<void> {
    await this.stop();
    await this.#answering;
    await this.#keeping;
  }

  #ask(text: string, parent: string | null): Promise<void> {
    this.#before = null;
    return this.#run(this.thread.add(newMessage('user', parent, text)).id);
  }

  #run(question: string): Promise<void> {
    this.#answering = this.#answer(question);
    return this.#answering;
  }

  /** One answer to a question, beside those that it has. */
  async #answer(question: string): Promise<void> {
    const sampling = this.#options.sampling();
    if (!sampling) return;
    const { thread } = this;
    const facts = thread.intake === null ? '' : intakeText(thread.intake);
    const prompt = promptTurns(turnsOf(thread.messages, question), facts);
    const answer = thread.add(newMessage('assistant', question, ''));
    answer.model = this.#options.model?.() ?? null;
    remember(this.#openName, thread.id);
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
    const leave = this.#isStopping() ? null : risk.enter('answer');
    try {
      if (leave === null) throw new Failure('Cancelled', 'stopped before it began');
      const system = this.#options.system?.() ?? '';
      const request = {
        task: this.task,
        turns: prompt,
        sampling,
        seed: this.#options.seed(),
        ...(system === '' ? {} : { system }),
      };
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
      answer.finish = result.finish;
      answer.backend = result.ran.backend;
      answer.variant = result.ran.variant;
      answer.state = result.finish === 'cancelled' ? 'stopped' : 'done';
    } catch (error) {
      this.#breakOff(answer, error);
    } finally {
      leave?.();
    }
    paint.now();
    this.#end(answer);
    await this.#keep();
    this.#options.onkept?.();
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

  /** Keeps what is in hand. One write after another: an older half never comes last. */
  #keep(): Promise<void> {
    this.#lastKept = performance.now();
    const record = this.thread.record();
    this.#keeping = this.#keeping.then(() => this.#write(record));
    return this.#keeping;
  }

  async #write(record: Consultation): Promise<void> {
    try {
      await this.#options.records.keep(record);
      this.notKept = null;
    } catch (error) {
      this.notKept = troubleOf(error).name;
    }
  }
}
