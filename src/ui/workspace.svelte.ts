import type { Listing, RecordStore } from '../store/records.ts';
import type { BackendChoice, ModelsApi, PageEngine } from '../worker/api.ts';
import { Alarm } from './alarm.svelte.ts';
import { Chat, type ChatOptions } from './chat.svelte.ts';
import { Ledger } from './consult/ledger.svelte.ts';
import type { UserTurn } from './conversation.ts';
import { Language } from './language.svelte.ts';
import { Loader } from './loader.svelte.ts';
import { recall, remember } from './memory.ts';
import type { Models } from './models/models.svelte.ts';
import { Settings } from './settings.svelte.ts';
import { type TaskName, taskNames } from './tasks.ts';
import { hearAnswer, Watch } from './watch.svelte.ts';
import type { Words } from './words/zh.ts';

/** What is typed is kept and looked at after this pause. */
const PAUSE_MS = 250;

/** What the page is made of: one model, the records, one open conversation per task. */
export interface WorkspaceOptions {
  readonly engine: PageEngine;
  /** The packages of this browser; without it the page about them is empty. */
  readonly models?: ModelsApi;
  readonly records: RecordStore;
  readonly folder: () => string;
  readonly languages: readonly string[];
  /** The English words, where the page begins in English. */
  readonly english?: Words | null;
  /** What shall compute in this visit; left out or null, what was kept. */
  readonly backend?: BackendChoice | null;
}

export class Workspace {
  readonly language: Language;
  readonly settings: Settings;
  readonly loader: Loader;
  /** Notices a model that does not move. What an answer has said by then is kept at once. */
  readonly watch = new Watch(() => void (this.busyTask && this.chats[this.busyTask].keepPartial()));
  readonly ledger: Ledger;
  readonly chats: Readonly<Record<TaskName, Chat>>;
  readonly alarms: Readonly<Record<TaskName, Alarm>>;
  readonly #records: RecordStore;
  #typing: ReturnType<typeof setTimeout> | undefined;
  /** The conversation whose draft is not kept yet. */
  #typedIn: Chat | null = null;
  /** Made when the page about models is first shown; an install goes on when that page is left. */
  models = $state.raw<Models | null>(null);
  /** Files of a model are under way: from the network, from a folder, to a folder. */
  readonly isTransferring = $derived.by(
    () => (this.models?.work ?? null) !== null || this.loader.phase === 'loading',
  );
  task = $state<TaskName>('medkqa');
  /** Whom the next new consultation is about. */
  child = $state<string | null>(null);
  readonly chat = $derived.by(() => this.chats[this.task]);
  readonly alarm = $derived.by(() => this.alarms[this.task]);
  /** What is asked on a screen beside the conversations. */
  alarmBeside: Alarm | null = $state.raw(null);
  /** The alarm that is shown: there is one place for it. */
  readonly shownAlarm = $derived.by(() =>
    this.alarmBeside !== null && this.alarmBeside.signs.length > 0 ? this.alarmBeside : this.alarm,
  );
  /** The task whose answer is running: there is one engine and one answer at a time. */
  readonly busyTask = $derived.by(
    () => taskNames.find((name) => this.chats[name].isRunning) ?? null,
  );

  constructor({
    engine,
    records,
    folder,
    languages,
    english = null,
    backend = null,
  }: WorkspaceOptions) {
    this.language = new Language(languages, english);
    this.settings = new Settings(backend);
    const backendOf = () => this.settings.backend;
    this.loader = new Loader(engine, folder, backendOf, undefined, this.watch);
    const watched: ChatOptions['engine'] = {
      stop: () => engine.stop(),
      generate: async (request, onEvent) => {
        const result = await this.watch.during('answer', (heard) =>
          engine.generate(request, (event) => {
            hearAnswer(heard, event);
            onEvent(event);
          }),
        );
        this.loader.ran(result.ran);
        return result;
      },
    };
    this.#records = records;
    this.ledger = new Ledger(records, {
      onclose: () => this.#each((chat) => chat.close()),
      onopen: () => this.#restore(this.#oneListing()),
      inHand: () => taskNames.flatMap((name) => this.chats[name].inHand),
      onturned: () => {
        for (const name of taskNames) this.chats[name].keepDraft();
      },
    });
    const chat = (task: TaskName): Chat =>
      new Chat({
        task,
        engine: watched,
        records,
        sampling: () => (this.canAsk(task) ? this.#sampling() : null),
        seed: () => this.settings.nextSeed(),
        system: () => this.settings.system,
        model: () => this.loader.info?.id ?? null,
        child: () => this.child,
        onkept: () => void this.ledger.refresh(),
      });
    this.chats = { medkqa: chat('medkqa'), evidiag: chat('evidiag'), trerecom: chat('trerecom') };
    const alarm = (task: TaskName): Alarm =>
      new Alarm(() => {
        const { facts, questions } = this.chats[task];
        return facts === '' ? questions : [facts, ...questions];
      }, this.chats[task].draft);
    this.alarms = {
      medkqa: alarm('medkqa'),
      evidiag: alarm('evidiag'),
      trerecom: alarm('trerecom'),
    };
    const kept = recall('task');
    this.task = taskNames.find((name) => name === kept) ?? 'medkqa';
  }

  /** Loads the model and the kept conversations, side by side. */
  async start(): Promise<void> {
    const list = this.#oneListing();
    const restored = this.#restore(list);
    await Promise.all([this.loader.start(), this.ledger.start(list), restored]);
  }

  /** Opens a consultation of the list, in the task that it belongs to. */
  async openConsultation(id: string): Promise<boolean> {
    const entry = this.ledger.listing.entries.find((one) => one.id === id);
    const task = taskNames.find((name) => name === entry?.task);
    if (!task) return false;
    this.choose(task);
    if (this.chat.thread.id === id) return true;
    const consultation = await this.ledger.read(id);
    if (!consultation) return false;
    this.child = this.ledger.childOf(consultation.child)?.id ?? null;
    await this.chats[task].resume(consultation);
    this.alarms[task].forget();
    return true;
  }

  /** Begins a consultation about a child, or about nobody in particular. */
  async newConsultation(child: string | null): Promise<void> {
    this.child = child;
    await this.startAnew();
  }

  /** Deletes a consultation; where it is open, the page goes on with a new one. */
  async removeConsultation(id: string, name: string): Promise<void> {
    const open = taskNames.filter((task) => this.chats[task].thread.id === id);
    for (const task of open) await this.chats[task].startAnew();
    await this.ledger.remove({ kind: 'consultation', id, name });
  }

  /** Brings back what was deleted last, and opens it where it is a consultation. */
  async undoRemoval(): Promise<void> {
    const { removed } = this.ledger;
    if (!(await this.ledger.undo()) || removed?.kind !== 'consultation') return;
    await this.openConsultation(removed.id);
  }

  choose(task: TaskName): void {
    this.task = task;
    remember('task', task);
  }

  /** Takes the model from the window that uses it, with what was said there. */
  async takeOver(): Promise<void> {
    await this.loader.takeOver();
    await Promise.all(taskNames.map((name) => this.chats[name].readAgain()));
    await this.ledger.refresh();
  }

  /** Lets something else compute; the model is loaded anew once no answer is running. */
  async chooseBackend(backend: BackendChoice): Promise<void> {
    if (!this.canChooseBackend) return;
    this.settings.setBackend(backend);
    await this.loader.restart();
  }

  /** Not while the model is loaded or answers. */
  get canChooseBackend(): boolean {
    const { phase } = this.loader;
    return (
      phase !== 'starting' && phase !== 'loading' && phase !== 'lent' && this.busyTask === null
    );
  }

  /** Follows the typing: keeps the draft and looks for danger signs, once the person pauses. */
  typed(text: string): void {
    if (this.#typedIn !== this.chat) this.keepTyped();
    this.#typedIn = this.chat;
    this.chat.draft = text;
    clearTimeout(this.#typing);
    this.#typing = setTimeout(() => this.keepTyped(), PAUSE_MS);
  }

  /** The same without the pause: the page is left, or another conversation is typed in. */
  keepTyped(): void {
    clearTimeout(this.#typing);
    const chat = this.#typedIn;
    if (chat === null) return;
    this.#typedIn = null;
    chat.keepDraft();
    this.alarms[chat.task].look(chat.draft);
  }

  /** Asks what is typed. Danger signs are looked for first, and without a model too. */
  async send(): Promise<void> {
    this.keepTyped();
    const { chat, alarm } = this;
    alarm.look(chat.draft);
    chat.keepDraft();
    const asking = chat.send();
    alarm.look(chat.draft);
    await asking;
  }

  /** Asks another version of a question that was asked. Danger signs are looked for first. */
  async resend(turn: UserTurn, text: string): Promise<void> {
    const { chat, alarm } = this;
    alarm.look(text);
    const asking = chat.edit(turn, text);
    alarm.look(chat.draft);
    await asking;
  }

  async startAnew(): Promise<void> {
    const { chat, alarm } = this;
    await chat.startAnew();
    alarm.forget();
    await this.ledger.refresh();
  }

  /** Begins anew with the last question: it did not fit behind what was said before. */
  async askAnew(): Promise<void> {
    const question = this.chat.questions.at(-1) ?? '';
    await this.startAnew();
    if (this.chat.draft === '') this.typed(question);
  }

  /** Whether the loaded model knows this task. */
  knows(task: TaskName): boolean {
    const info = this.loader.info;
    return !info || info.tasks.some(({ id }) => id === task);
  }

  /** Whether a question to this task could be answered now. */
  canAsk(task: TaskName): boolean {
    const isFree = this.busyTask === null || this.busyTask === task;
    return this.loader.phase === 'ready' && this.knows(task) && isFree;
  }

  #restore(list: () => Promise<Listing>): Promise<void> {
    return this.#each((chat) => chat.restore(list));
  }

  /** A listing that is made when the first asks for it, and shared by all who do. */
  #oneListing(): () => Promise<Listing> {
    let listing: Promise<Listing> | null = null;
    return () => (listing ??= this.#records.list());
  }

  async #each(work: (chat: Chat) => Promise<void>): Promise<void> {
    await Promise.all(taskNames.map((name) => work(this.chats[name])));
  }

  #sampling() {
    const info = this.loader.info;
    return info ? this.settings.sampling(info.sampling) : null;
  }
}
