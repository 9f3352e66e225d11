import type { BackendChoice, EngineApi } from '../worker/api.ts';
import { Alarm } from './alarm.svelte.ts';
import { Chat, type ChatOptions } from './chat.svelte.ts';
import type { Records } from './conversation.ts';
import { Language } from './language.svelte.ts';
import { Loader } from './loader.svelte.ts';
import { recall, remember } from './memory.ts';
import { Settings } from './settings.svelte.ts';
import { type TaskName, taskNames } from './tasks.ts';

/** What is typed is kept and looked at after this pause. */
const PAUSE_MS = 250;

/** What the page is made of: one model, one conversation per task. */
export interface WorkspaceOptions {
  readonly engine: EngineApi;
  readonly records: Records;
  readonly folder: () => string;
  readonly languages: readonly string[];
  /** What shall compute in this visit; left out or null, what was kept. */
  readonly backend?: BackendChoice | null;
}

export class Workspace {
  readonly language: Language;
  readonly settings: Settings;
  readonly loader: Loader;
  readonly chats: Readonly<Record<TaskName, Chat>>;
  readonly alarms: Readonly<Record<TaskName, Alarm>>;
  #typing: ReturnType<typeof setTimeout> | undefined;
  task = $state<TaskName>('medkqa');
  readonly chat = $derived.by(() => this.chats[this.task]);
  readonly alarm = $derived.by(() => this.alarms[this.task]);
  /** The task whose answer is running: there is one engine and one answer at a time. */
  readonly busyTask = $derived.by(
    () => taskNames.find((name) => this.chats[name].isRunning) ?? null,
  );

  constructor({ engine, records, folder, languages, backend = null }: WorkspaceOptions) {
    this.language = new Language(languages);
    this.settings = new Settings(backend);
    this.loader = new Loader(engine, folder, () => this.settings.backend);
    const watched: ChatOptions['engine'] = {
      stop: () => engine.stop(),
      generate: async (request, onEvent) => {
        const result = await engine.generate(request, onEvent);
        this.loader.ran(result.ran);
        return result;
      },
    };
    const chat = (task: TaskName): Chat =>
      new Chat({
        task,
        engine: watched,
        records,
        sampling: () => (this.canAsk(task) ? this.#sampling() : null),
        seed: () => this.settings.nextSeed(),
      });
    this.chats = { medkqa: chat('medkqa'), evidiag: chat('evidiag'), trerecom: chat('trerecom') };
    const alarm = (task: TaskName): Alarm =>
      new Alarm(() => this.chats[task].questions, this.chats[task].draft);
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
    const restored = taskNames.map((name) => this.chats[name].restore());
    await Promise.all([this.loader.start(), ...restored]);
  }

  choose(task: TaskName): void {
    this.task = task;
    remember('task', task);
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
    return (phase === 'ready' || phase === 'failed') && this.busyTask === null;
  }

  /** Follows the typing: keeps the draft and looks for danger signs, once the person pauses. */
  typed(text: string): void {
    const { chat, alarm } = this;
    chat.draft = text;
    clearTimeout(this.#typing);
    this.#typing = setTimeout(() => {
      chat.keepDraft();
      alarm.look(chat.draft);
    }, PAUSE_MS);
  }

  /** Asks what is typed. Danger signs are looked for first, and without a model too. */
  async send(): Promise<void> {
    clearTimeout(this.#typing);
    const { chat, alarm } = this;
    alarm.look(chat.draft);
    chat.keepDraft();
    const asking = chat.send();
    alarm.look(chat.draft);
    await asking;
  }

  async startAnew(): Promise<void> {
    const { chat, alarm } = this;
    await chat.startAnew();
    alarm.forget();
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

  #sampling() {
    const info = this.loader.info;
    return info ? this.settings.sampling(info.sampling) : null;
  }
}
