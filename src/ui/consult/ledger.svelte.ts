import { Failure, failureName } from '../../failure.ts';
import {
  type Child,
  type ChildDraft,
  type Consultation,
  exportText,
  type Hit,
  type ImportPlan,
  limits,
  type Listing,
  markdownOf,
  type MarkdownWords,
  planImport,
  type RecordsState,
  type RecordStore,
} from '../../store/records.ts';
import { recall, remember } from '../memory.ts';
import { type Trouble, troubleOf } from '../trouble.ts';
import { groupsOf } from './groups.ts';

export const lockChoices = [0, 5, 15, 30] as const; // minutes; 0 is never
const LOCK_KEY = 'lock.minutes';
const USUAL_LOCK = 15;

/** What was deleted last, as long as it can be brought back from here. */
export interface Removed {
  readonly kind: 'consultation' | 'child';
  readonly id: string;
  readonly name: string;
}

/** What the ledger does not do itself: the conversations in hand are the workspace's. */
export interface LedgerHooks {
  /** Takes what was said off the page, before records are locked or deleted. */
  readonly onclose: () => Promise<void>;
  /** Brings it back once they are open; all conversations may share one listing. */
  readonly onopen: () => Promise<void>;
  /** Encryption was turned on or off: what is being typed moves as well. */
  readonly onturned: () => void;
  /** The consultations that are open on the page, as they are there. */
  readonly inHand: () => readonly Consultation[];
}

const EMPTY: Listing = { entries: [], children: [], damaged: 0 };

/** The records as the page shows them: the list, the search, and what may be done with it all. */
export class Ledger {
  state = $state<RecordsState>('closed');
  isEncrypted = $state(false);
  /** Something goes on that takes a while: everything is encrypted, exported, imported. */
  isBusy = $state(false);
  trouble = $state.raw<Trouble | null>(null);
  listing = $state.raw<Listing>(EMPTY);
  query = $state('');
  hits = $state.raw<readonly Hit[] | null>(null);
  removed = $state.raw<Removed | null>(null);
  /** After so many minutes without anybody the records are locked; 0 is never. */
  lockMinutes = $state<number>(USUAL_LOCK);
  readonly groups = $derived.by(() => groupsOf(this.listing, this.hits));
  readonly #records: RecordStore;
  readonly #hooks: LedgerHooks;
  #asked = 0;

  constructor(records: RecordStore, hooks: LedgerHooks) {
    this.#records = records;
    this.#hooks = hooks;
    const kept = Number(recall(LOCK_KEY) ?? NaN);
    this.lockMinutes = lockChoices.find((choice) => choice === kept) ?? USUAL_LOCK;
    records.onCleared(() => this.#look());
  }

  /** Opens the records and lists them; `list`: a listing that others use as well. */
  async start(list = () => this.#records.list()): Promise<void> {
    await this.#try(async () => {
      await this.#records.open();
      this.#look();
      if (this.state === 'open' || this.state === 'newer') await this.#list(list);
    });
  }

  /** Reads the list anew, where it can be read. */
  async refresh(): Promise<void> {
    if (this.state !== 'open' && this.state !== 'newer') return;
    const before = this.trouble; // what the person is reading stays
    await this.#try(() => this.#list());
    this.trouble ??= before;
  }

  /** Looks for words in titles and texts; an empty query shows everything again. */
  async search(query: string): Promise<void> {
    this.query = query;
    this.#asked += 1;
    const asked = this.#asked;
    if (query.trim() === '') {
      this.hits = null;
      return;
    }
    await this.#try(async () => {
      const hits = await this.#records.search(query);
      if (asked === this.#asked) this.hits = hits; // else the person has typed on
    });
  }

  childOf(id: string | null): Child | null {
    return this.listing.children.find((child) => child.id === id) ?? null;
  }

  /** A consultation with all its messages; null where it cannot be read, and `trouble` says why. */
  async read(id: string): Promise<Consultation | null> {
    return this.#try(() => this.#records.consultation(id));
  }

  rename(id: string, title: string): Promise<boolean> {
    return this.#write(() => this.#records.rename(id, title.trim()));
  }

  assign(id: string, child: string | null): Promise<boolean> {
    return this.#write(() => this.#records.assign(id, child));
  }

  remove({ kind, id, name }: Removed): Promise<boolean> {
    return this.#write(async () => {
      if (kind === 'child') await this.#records.removeChild(id);
      else await this.#records.remove(id);
      this.removed = { kind, id, name };
    });
  }

  undo(): Promise<boolean> {
    return this.#write(async () => {
      if (!this.removed) return;
      const { kind, id } = this.removed;
      if (kind === 'child') await this.#records.restoreChild(id);
      else await this.#records.restore(id);
      this.removed = null;
    });
  }

  async saveChild(id: string | null, draft: ChildDraft): Promise<Child | null> {
    let child: Child | null = null;
    await this.#write(async () => {
      child = await this.#records.saveChild(id, draft);
    });
    return child;
  }

  // The passphrase

  setPassphrase(passphrase: string): Promise<boolean> {
    return this.#write(async () => {
      await this.#records.setPassphrase(passphrase);
      this.#hooks.onturned();
    });
  }

  changePassphrase(passphrase: string, next: string): Promise<boolean> {
    return this.#write(() => this.#records.changePassphrase(passphrase, next));
  }

  removePassphrase(passphrase: string): Promise<boolean> {
    return this.#write(async () => {
      await this.#records.removePassphrase(passphrase);
      this.#hooks.onturned();
    });
  }

  unlock(passphrase: string): Promise<boolean> {
    return this.#write(async () => {
      await this.#records.unlock(passphrase);
      await this.#hooks.onopen();
    });
  }

  /** Takes everything off the page and forgets the key. */
  async lock(): Promise<void> {
    if (!this.isEncrypted || this.state !== 'open') return;
    await this.#hooks.onclose();
    this.#records.lock();
    this.#forget();
    this.#look();
  }

  setLockMinutes(minutes: number): void {
    this.lockMinutes = lockChoices.find((choice) => choice === minutes) ?? USUAL_LOCK;
    remember(LOCK_KEY, String(this.lockMinutes));
  }

  /** Deletes everything, with the key. */
  wipe(): Promise<boolean> {
    return this.#write(async () => {
      await this.#hooks.onclose();
      await this.#records.wipe();
      this.#forget();
      this.#hooks.onturned();
    });
  }

  // Files

  /**
   * All records as the text of a file; null where that fails. Where the browser has cleared them, what
   * this page still has in hand.
   */
  exportAll(version: string): Promise<string | null> {
    return this.#long(async () => {
      const { children, consultations, damaged } =
        this.state === 'cleared' ? this.#inHand() : await this.#records.everything();
      const generator = { app: 'PediatricsGPT Web', version };
      const text = exportText(children, consultations, generator);
      if (damaged > 0)
        this.trouble = troubleOf(new Failure('RecordDamaged', `${damaged} left out`));
      return text;
    });
  }

  /** One consultation as Markdown; null where it is not there or cannot be read. */
  async markdown(id: string, words: MarkdownWords, taskTitle: string): Promise<string | null> {
    const consultation = await this.read(id);
    if (!consultation) return null;
    return markdownOf(consultation, this.childOf(consultation.child), words, taskTitle);
  }

  /** What an import of this file would do; nothing is changed. */
  plan(file: Blob): Promise<ImportPlan | null> {
    return this.#long(async () => {
      if (file.size > limits.fileBytes) throw new Failure('BadImport', `${file.size} bytes`);
      const bytes = new Uint8Array(await file.arrayBuffer());
      return planImport(bytes, await this.#records.everything());
    });
  }

  add({ children, consultations }: ImportPlan): Promise<boolean> {
    return this.#write(() => this.#records.add(children, consultations));
  }

  #inHand() {
    const { children, entries } = this.listing;
    const consultations = this.#hooks.inHand().map((one) => {
      const title = entries.find(({ id }) => id === one.id)?.title ?? one.title;
      return { ...one, title };
    });
    return { children, consultations, damaged: 0 };
  }

  async #list(list = () => this.#records.list()): Promise<void> {
    this.listing = await list();
    if (this.query.trim() !== '') this.hits = await this.#records.search(this.query);
  }

  #look(): void {
    this.state = this.#records.state;
    this.isEncrypted = this.#records.isEncrypted;
  }

  #forget(): void {
    this.listing = EMPTY;
    this.query = '';
    this.hits = null;
    this.removed = null;
  }

  /** Does something and shows what is there then; false where it failed, and `trouble` says why. */
  async #write(work: () => Promise<void>): Promise<boolean> {
    const done = await this.#long(async () => {
      await work();
      this.#look();
      if (this.state === 'open') await this.#list();
      return true;
    });
    return done === true;
  }

  async #long<T>(work: () => Promise<T>): Promise<T | null> {
    this.isBusy = true;
    const result = await this.#try(work);
    this.isBusy = false;
    return result;
  }

  async #try<T>(work: () => Promise<T>): Promise<T | null> {
    this.trouble = null;
    try {
      return await work();
    } catch (error) {
      this.trouble = troubleOf(error);
      if (failureName(error) === 'RecordsLocked') {
        // Another window has turned encryption on: nothing of it stays on this page.
        this.#forget();
        this.state = 'locked';
        this.isEncrypted = true;
      }
      return null;
    }
  }
}
