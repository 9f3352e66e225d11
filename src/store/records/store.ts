import * as v from 'valibot';
import { Failure } from '../../failure.ts';
import { childProblems, type ChildDraft } from './child.ts';
import { legacyOf, type LegacyMarks, legacyTasks, MOVED, upgraded } from './legacy.ts';
import type { Change, Place } from './place.ts';
import { type Hit, SearchIndex } from './search.ts';
import {
  type Child,
  childShape,
  type Consultation,
  consultationShape,
  type Entry,
  entryShape,
} from './shapes.ts';
import { merged } from './tree.ts';
import { type Found, type Put, schemaOf, Vault } from './vault.ts';

/** How long what was deleted can be brought back; after that the next start takes it away. */
export const UNDO_MS = 60 * 60 * 1000;
const TRIES = 20;
/** So often, after such a pause, a database that was closed is looked into. */
const LOOKS = 20;
const LOOK_AGAIN_MS = 100;

/**
 * `locked`: encrypted, no passphrase given. `newer`: written by a newer edition, read only here.
 * `cleared`: the browser has deleted them while they were open; nothing is written any more.
 */
export type RecordsState = 'closed' | 'open' | 'locked' | 'newer' | 'cleared';

export interface RecordsOptions {
  readonly now?: () => Date;
  /** How the answers of the first edition ended, by task; that edition kept it elsewhere. */
  readonly legacyMarks?: (task: string) => LegacyMarks;
  /** Rounds of the key derivation for a new passphrase. */
  readonly rounds?: number;
}

/** What a list is made of. */
export interface Listing {
  /** Newest first, without what was deleted. */
  readonly entries: readonly Entry[];
  readonly children: readonly Child[];
  /** How many records cannot be read: damaged, or altered from outside. */
  readonly damaged: number;
}

const childKey = (id: string): string => `child:${id}`;
const consultKey = (id: string): string => `consult:${id}`;
const indexKey = (id: string): string => `index:${id}`;

/** Children and consultations on this device. Nothing here is shown, and nothing leaves. */
export class RecordStore {
  readonly #place: Place;
  readonly #vault: Vault;
  readonly #now: () => Date;
  readonly #legacyMarks: (task: string) => LegacyMarks;
  #state: RecordsState = 'closed';
  #opening: Promise<void> | null = null;
  #search: SearchIndex | null = null;
  /** Keys of what the last list was made of. */
  #listed: readonly string[] = [];
  #tellCleared: () => void = () => undefined;

  constructor(place: Place, options: RecordsOptions = {}) {
    this.#place = place;
    this.#vault = new Vault(place, options.rounds);
    this.#now = options.now ?? (() => new Date());
    this.#legacyMarks = options.legacyMarks ?? (() => []);
    place.onClosed?.(() => void this.#lookAfterClose());
  }

  /** Calls back when the browser has cleared the records: what a page still shows is the last of it. */
  onCleared(tell: () => void): void {
    this.#tellCleared = tell;
  }

  get state(): RecordsState {
    return this.#state;
  }

  get isEncrypted(): boolean {
    return this.#vault.isEncrypted;
  }

  /**
   * Opens the records, once: moves what the first edition kept, takes away what was deleted long ago.
   * @throws Failure StorageBlocked, StorageFull, RecordDamaged
   */
  open(): Promise<RecordsState> {
    this.#opening ??= this.#open().catch((error: unknown) => {
      this.#opening = null; // the next one tries again
      throw error;
    });
    return this.#opening.then(() => this.#state);
  }

  async #open(): Promise<void> {
    await this.#vault.start();
    this.#state = this.#vault.isNewer ? 'newer' : this.#vault.isLocked ? 'locked' : 'open';
    if (this.#state === 'open') await this.#tidy();
  }

  // The passphrase

  /** @throws Failure WrongPassphrase */
  async unlock(passphrase: string): Promise<void> {
    await this.#vault.unlock(passphrase);
    this.#state = 'open';
    await this.#tidy();
  }

  /** Forgets the key and everything that was read with it. */
  lock(): void {
    if (!this.#vault.isEncrypted) return;
    this.#vault.lock();
    this.#search = null;
    this.#state = 'locked';
  }

  /** Encrypts all records. Interrupted, it goes on when they are unlocked the next time. */
  async setPassphrase(passphrase: string): Promise<void> {
    await this.open();
    await this.#vault.turnOn(passphrase);
  }

  /** @throws Failure WrongPassphrase */
  async changePassphrase(passphrase: string, next: string): Promise<void> {
    await this.#vault.change(passphrase, next);
  }

  /**
   * Decrypts all records.
   * @throws Failure WrongPassphrase
   */
  async removePassphrase(passphrase: string): Promise<void> {
    await this.#vault.turnOff(passphrase);
  }

  /** Deletes all records and forgets the key. There is no way back. */
  async wipe(): Promise<void> {
    await this.#vault.wipe();
    const gone = legacyTasks.map((key) => ({ key, value: undefined }));
    await this.#place.change(legacyTasks, (found) =>
      gone.filter((_, i) => found[i] !== undefined && legacyOf(found[i]) !== null),
    );
    this.#search = null;
    this.#state = 'open';
  }

  // Reading

  async list(): Promise<Listing> {
    const indexed = await this.#vault.readAll('index:', entryShape);
    const children = await this.#vault.readAll('child:', childShape);
    const entries = valuesOf(indexed.found).filter(({ deleted }) => deleted === null);
    entries.sort((a, b) => (a.updated < b.updated ? 1 : a.updated > b.updated ? -1 : 0));
    const known = valuesOf(children.found).filter(({ deleted }) => deleted === null);
    known.sort((a, b) => (a.created < b.created ? -1 : 1));
    const damaged = indexed.damaged.length + children.damaged.length;
    this.#listed = [...indexed.found.keys(), ...children.found.keys()];
    return { entries, children: known, damaged };
  }

  /** @throws Failure RecordsLocked, RecordDamaged */
  async consultation(id: string): Promise<Consultation | null> {
    return (await this.#vault.read(consultKey(id), consultationShape))?.value ?? null;
  }

  /** Everything that was not deleted, for an export; damaged records are counted and left out. */
  async everything(): Promise<{
    children: Child[];
    consultations: Consultation[];
    damaged: number;
  }> {
    const { entries, children, damaged } = await this.list();
    const { found, damaged: unread } = await this.#vault.readAll('consult:', consultationShape);
    const consultations = entries.flatMap(({ id }) => found.get(consultKey(id))?.value ?? []);
    return { children: [...children], consultations, damaged: damaged + unread.length };
  }

  /** Consultations that hold every word of the query. The first call reads all of them. */
  async search(query: string): Promise<Hit[]> {
    if (this.#search === null) {
      const index = new SearchIndex();
      for (const consultation of (await this.everything()).consultations) index.put(consultation);
      if (this.#vault.isLocked) return []; // locked while it read
      this.#search = index;
    }
    return this.#search.find(query);
  }

  // Writing

  /**
   * Keeps a consultation: what is in hand together with what another window has added. One that is not
   * there yet is made; one that was deleted is there again, for somebody goes on with it.
   * @throws Failure RecordsLocked, RecordsNewer, RecordsChanged, StorageFull, StorageBlocked
   */
  async keep(consultation: Consultation): Promise<void> {
    await this.open();
    const next = (old: Consultation | null): Consultation => {
      const one = old ? merged(consultation, old) : consultation;
      // A clock that was set back does not make what was just said the oldest of all.
      const times = [this.#now().toISOString(), one.created, old?.updated ?? ''].sort();
      return { ...one, updated: times.at(-1) ?? one.created };
    };
    await this.#rewrite(consultation.id, next);
  }

  async rename(id: string, title: string): Promise<void> {
    await this.#rewrite(id, (old) => (old ? { ...old, title } : null));
  }

  /** Puts a consultation to a child, or to none. */
  async assign(id: string, child: string | null): Promise<void> {
    await this.#rewrite(id, (old) => (old ? { ...old, child } : null));
  }

  async setIntake(id: string, intake: Consultation['intake']): Promise<void> {
    await this.#rewrite(id, (old) => (old ? { ...old, intake } : null));
  }

  /** Deletes a consultation; `restore` brings it back for an hour, or until the start after that. */
  async remove(id: string): Promise<void> {
    const deleted = this.#now().toISOString();
    await this.#change(indexKey(id), entryShape, (entry) => ({ ...entry, deleted }));
    this.#search?.drop(id);
  }

  async restore(id: string): Promise<void> {
    await this.#change(indexKey(id), entryShape, (entry) => ({ ...entry, deleted: null }));
    const consultation = this.#search ? await this.consultation(id) : null;
    if (consultation) this.#search?.put(consultation);
  }

  /**
   * Saves a child: a new one where `id` is null.
   * @returns the record
   * @throws Failure Usage where `childProblems` finds something: a form asks it first
   */
  async saveChild(id: string | null, draft: ChildDraft): Promise<Child> {
    const problems = childProblems(draft, this.#now());
    if (problems.length > 0) throw new Failure('Usage', `child: ${problems.join(', ')}`);
    await this.open();
    const now = this.#now().toISOString();
    const fields = { ...draft, nickname: draft.nickname.trim(), updated: now };
    if (id !== null) {
      const saved = await this.#change(childKey(id), childShape, (old) => ({ ...old, ...fields }));
      if (saved) return saved;
    }
    const made = { ...fields, id: crypto.randomUUID(), created: now, deleted: null };
    const child = v.parse(childShape, made);
    await this.#vault.write([{ key: childKey(child.id), value: child, expect: null }]);
    return child;
  }

  /** Deletes a child; the consultations stay, as those of nobody, until it is brought back. */
  async removeChild(id: string): Promise<void> {
    const deleted = this.#now().toISOString();
    await this.#change(childKey(id), childShape, (child) => ({ ...child, deleted }));
  }

  async restoreChild(id: string): Promise<void> {
    await this.#change(childKey(id), childShape, (child) => ({ ...child, deleted: null }));
  }

  /** Adds what an import brings, all of it or nothing. Ids are new: see `planImport`. */
  async add(children: readonly Child[], consultations: readonly Consultation[]): Promise<void> {
    await this.open();
    const puts: Put[] = children.map((child) => ({
      key: childKey(child.id),
      value: child,
    }));
    for (const consultation of consultations) puts.push(...putsOf(consultation));
    await this.#vault.write(puts);
    this.#search = null;
  }

  // What is typed and not yet sent, where it may not lie open

  async draft(task: string): Promise<string> {
    return (await this.#vault.read(`draft:${task}`, v.string()))?.value ?? '';
  }

  async keepDraft(task: string, text: string): Promise<void> {
    const value = text === '' ? undefined : text;
    await this.#vault.write([{ key: `draft:${task}`, value }]);
  }

  /** Changes a consultation and its entry in the list, in one transaction. */
  async #rewrite(
    id: string,
    next: (old: Consultation | null) => Consultation | null,
  ): Promise<void> {
    for (let i = 0; i < TRIES; i += 1) {
      const old = await this.#vault.read(consultKey(id), consultationShape);
      const changed = next(old?.value ?? null);
      if (!changed) return;
      if (await this.#vault.write(putsOf(changed, old?.revision ?? null))) {
        this.#search?.put(changed);
        return;
      }
    }
    throw new Failure('RecordsChanged', `another window keeps writing consultation ${id}`);
  }

  async #change<T>(
    key: string,
    shape: v.GenericSchema<unknown, T>,
    next: (old: T) => T,
  ): Promise<T | null> {
    for (let i = 0; i < TRIES; i += 1) {
      const old: Found<T> | null = await this.#vault.read(key, shape);
      if (!old) return null;
      const value = next(old.value);
      if (await this.#vault.write([{ key, value, expect: old.revision }])) return value;
    }
    throw new Failure('RecordsChanged', `another window keeps writing ${key}`);
  }

  /** The database was closed under us. Nothing is written until it is known to hold what it held. */
  async #lookAfterClose(): Promise<void> {
    this.#vault.isCleared = true;
    const known = this.#listed;
    const here = await this.#keysHere();
    // Where it cannot be read at all, whoever writes next is told why.
    if (here === null || (known.length > 0 && known.every((key) => here.has(key)))) {
      this.#vault.isCleared = false;
      return;
    }
    this.#state = 'cleared';
    this.#tellCleared();
  }

  /** Keys of all that is listed; null where they cannot be read. */
  async #keysHere(): Promise<ReadonlySet<string> | null> {
    for (let i = 0; i < LOOKS; i += 1) {
      try {
        const kinds = await Promise.all(['index:', 'child:'].map((kind) => this.#place.list(kind)));
        return new Set(kinds.flat().map(([key]) => key));
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        // As long as the browser is clearing, Chromium lets nobody open anything.
        await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
      }
    }
    return null;
  }

  /** Moves what the first edition kept and takes away what was deleted long enough ago. */
  async #tidy(): Promise<void> {
    for (const task of legacyTasks) await this.#upgrade(task);
    const { found } = await this.#vault.readAll('index:', entryShape);
    for (const { id, deleted } of valuesOf(found)) {
      if (this.#isPast(deleted)) {
        await this.#vault.write([
          { key: consultKey(id), value: undefined },
          {
            key: indexKey(id),
            value: undefined,
            expect: found.get(indexKey(id))?.revision ?? null,
          },
        ]);
      }
    }
    const children = await this.#vault.readAll('child:', childShape);
    for (const { id, deleted } of valuesOf(children.found)) {
      const expect = children.found.get(childKey(id))?.revision ?? null;
      if (this.#isPast(deleted)) {
        await this.#vault.write([{ key: childKey(id), value: undefined, expect }]);
      }
    }
  }

  /** A time to come counts as past: then the clock was wrong when it was written, or is now. */
  #isPast(deleted: string | null): boolean {
    if (deleted === null) return false;
    const since = this.#now().getTime() - Date.parse(deleted);
    return since >= UNDO_MS || since < -UNDO_MS;
  }

  /** The new record and the mark in the old one's place are one transaction. */
  async #upgrade(task: string): Promise<void> {
    const stored = await this.#place.get(task);
    const legacy = schemaOf(stored) === 1 ? legacyOf(stored) : null;
    if (!legacy) return;
    const consultation = upgraded({ ...legacy, task }, this.#now(), this.#legacyMarks(task));
    const moved: Change = { key: task, value: MOVED };
    const puts = consultation ? putsOf(consultation, null) : [];
    // Not written: it was moved before, and may have gone on since.
    if (!(await this.#vault.write(puts, [moved]))) await this.#vault.write([], [moved]);
  }
}

function putsOf(consultation: Consultation, expect?: string | null): Put[] {
  const { id, child, task, title, created, updated } = consultation;
  const entry: Entry = { id, child, task, title, created, updated, deleted: null };
  return [
    { key: consultKey(id), value: consultation, ...(expect === undefined ? {} : { expect }) },
    { key: indexKey(id), value: entry },
  ];
}

function valuesOf<T>(found: ReadonlyMap<string, Found<T>>): T[] {
  return [...found.values()].map(({ value }) => value);
}
