import type { PeerModel, PeerProblem, SideEngine, SideRequest } from '../../peer/api.ts';
import { checkPicked, type Picked, startPeer } from '../../peer/client.ts';
import {
  INSTALLED,
  type ModelEntry,
  type ModelsApi,
  type SamplingSettings,
} from '../../worker/api.ts';
import { Alarm } from '../alarm.svelte.ts';
import { bundledFolder } from '../model-folder.ts';
import { risk } from '../risk.ts';
import { publishedDefaults } from '../settings.svelte.ts';
import type { TaskName } from '../tasks.ts';
import { type Trouble, troubleOf } from '../trouble.ts';
import type { Workspace } from '../workspace.svelte.ts';
import { type OurChoice, startOurs } from './our-side.ts';
import { Run } from './run.svelte.ts';

/** The choice of an imported model, among the keys of packages. */
export const PEER = 'peer';
/** What is typed is looked at after this pause. */
const PAUSE_MS = 250;

/** What a person chose for a side. */
export class Choice {
  /** A package's key, or PEER; '' while nothing is chosen. */
  model = $state('');
  backend = $state<OurChoice['backend']>('webgpu');
  task = $state<TaskName>('medkqa');
}

export interface CompareOptions {
  readonly workspace: Pick<Workspace, 'loader' | 'settings' | 'busyTask' | 'task'>;
  readonly models: Pick<ModelsApi, 'list'>;
  readonly page: string; // its address
  readonly startOurs?: (choice: OurChoice) => SideEngine;
  readonly startPeer?: (model: PeerModel) => SideEngine;
  readonly checkPicked?: typeof checkPicked;
  /** Runs work before the next paint; a test hands in its own. */
  readonly request?: (run: () => void) => void;
}

/** The same question to two sides, one after the other: a device has memory for one model. */
export class Compare {
  readonly picks: readonly [Choice, Choice] = [new Choice(), new Choice()];
  entries = $state.raw<readonly ModelEntry[] | null>(null);
  listTrouble = $state.raw<Trouble | null>(null);
  draft = $state('');
  /** The question that was compared last. */
  asked = $state('');
  runs = $state.raw<readonly Run[]>([]);
  /** The imported model that one of these runs is of; it may have been removed since. */
  ranWith = $state.raw<PeerModel | null>(null);
  /** How the answers were sampled. */
  request = $state.raw<SideRequest | null>(null);
  isRunning = $state(false);
  isStopping = $state(false);
  /** The imported model, or what is wrong with the folder that was picked. */
  imported = $state.raw<PeerModel | null>(null);
  problem = $state.raw<PeerProblem | null>(null);
  importTrouble = $state.raw<Trouble | null>(null);
  /** How much of the weights was read, between 0 and 1; null where nothing is being checked. */
  checking = $state<number | null>(null);
  readonly alarm: Alarm;
  readonly #options: CompareOptions;
  #stop: AbortController | null = null;
  #check: AbortController | null = null;
  #isShown = false;
  #typing: ReturnType<typeof setTimeout> | undefined;

  constructor(options: CompareOptions) {
    this.#options = options;
    this.alarm = new Alarm(() => (this.asked === '' ? [] : [this.asked]));
    const [first, second] = this.picks;
    const { task } = options.workspace;
    first.task = task;
    second.task = task;
    second.backend = 'cpu';
  }

  /** The screen is there: looks at which packages are. */
  async show(): Promise<void> {
    this.#isShown = true;
    try {
      const { models, page } = this.#options;
      this.listTrouble = null;
      const entries = await models.list([bundledFolder(page)]);
      this.entries = entries.filter(({ state }) => state !== 'partial');
    } catch (error) {
      this.listTrouble = troubleOf(error);
      this.entries ??= [];
    }
    const used = this.entries.find(
      (entry) => addressOf(entry) === this.#options.workspace.loader.address,
    );
    const usual = (used ?? this.entries[0])?.key ?? '';
    for (const pick of this.picks) {
      if (pick.model !== PEER && !this.entries.some(({ key }) => key === pick.model)) {
        pick.model = usual;
      }
    }
  }

  /** The screen is left: the conversation gets its model back, once nothing runs. */
  async leave(): Promise<void> {
    this.#isShown = false;
    if (!this.isRunning) await this.#options.workspace.loader.takeBack();
  }

  /** Follows the typing and looks for danger signs, once the person pauses. */
  typed(text: string): void {
    this.draft = text;
    clearTimeout(this.#typing);
    this.#typing = setTimeout(() => this.alarm.look(text), PAUSE_MS);
  }

  /** Why nothing can be compared now; null where it can. */
  get hindrance(): 'question' | 'answer' | 'loading' | 'model' | 'peer' | null {
    const { busyTask, loader } = this.#options.workspace;
    if (busyTask !== null) return 'answer';
    if (loader.phase === 'starting' || loader.phase === 'loading') return 'loading';
    if (this.picks.some(({ model }) => model === '')) return 'model';
    if (this.picks.some(({ model }) => model === PEER) && this.imported === null) return 'peer';
    return this.draft.trim() === '' ? 'question' : null;
  }

  /** Asks both sides. Danger signs are looked for first. Resolves when both have ended. */
  async compare(): Promise<void> {
    clearTimeout(this.#typing);
    this.alarm.look(this.draft);
    if (this.isRunning || this.hindrance !== null) return;
    const { loader, settings } = this.#options.workspace;
    this.isRunning = true;
    this.isStopping = false;
    const stop = new AbortController();
    this.#stop = stop;
    // Both sides run what is not known of this device yet, an imported one code by somebody else.
    const leave = risk.enter('compare');
    try {
      const base: SamplingSettings = loader.info?.sampling ?? publishedDefaults;
      const request: SideRequest = {
        question: this.draft.trim(),
        system: settings.system,
        sampling: settings.sampling(base),
        seed: settings.nextSeed(),
      };
      this.request = request;
      this.asked = request.question;
      this.ranWith = this.picks.some(({ model }) => model === PEER) ? this.imported : null;
      this.runs = this.picks.map((pick) => this.#runOf(pick));
      if (!(await loader.lend())) stop.abort();
      for (const run of this.runs) await run.go(request, stop.signal);
    } finally {
      leave();
      this.isRunning = false;
      this.#stop = null;
      if (!this.#isShown) await loader.takeBack();
    }
  }

  /** Ends the running side and leaves out the next one; what is there stays. */
  stop(): void {
    this.isStopping = true;
    this.#stop?.abort();
  }

  /** Looks at a folder that was picked; it takes the place of the one before. */
  async importFrom(picked: Picked): Promise<void> {
    if (this.checking !== null || this.isRunning) return;
    this.forget();
    this.checking = 0;
    const check = new AbortController();
    this.#check = check;
    try {
      const look = this.#options.checkPicked ?? checkPicked;
      const found = await look(picked, (part) => (this.checking = part), check.signal);
      this.imported = found.model;
      this.problem = found.problem;
    } catch (error) {
      const trouble = troubleOf(error);
      if (trouble.name !== 'Cancelled') this.importTrouble = trouble;
    } finally {
      this.checking = null;
      this.#check = null;
    }
  }

  cancelImport(): void {
    this.#check?.abort();
  }

  /** Lets go of the imported model: nothing of it was stored. */
  forget(): void {
    if (this.isRunning) return;
    this.imported = null;
    this.problem = null;
    this.importTrouble = null;
  }

  #runOf({ model, backend, task }: Choice): Run {
    const { imported, entries } = this;
    const clock = { now: () => performance.now(), request: this.#options.request };
    if (model === PEER) {
      const start = this.#options.startPeer ?? startPeer;
      return new Run(
        { kind: 'peer', title: imported?.name ?? '', asked: null },
        () => {
          if (imported === null) throw new Error('nothing is imported');
          return start(imported);
        },
        clock,
      );
    }
    const entry = entries?.find(({ key }) => key === model);
    const start = this.#options.startOurs ?? startOurs;
    return new Run(
      { kind: 'ours', title: entry?.id ?? '', asked: { backend, task } },
      () => {
        const address = entry === undefined ? null : addressOf(entry);
        if (address === null) throw new Error(`${model} has no address`);
        const careful = this.#options.workspace.loader.care !== 'usual';
        return start({ address, backend, task, careful });
      },
      clock,
    );
  }
}

function addressOf(entry: ModelEntry): string | null {
  return entry.state === 'ready' ? INSTALLED + entry.key : (entry.source?.from ?? null);
}
