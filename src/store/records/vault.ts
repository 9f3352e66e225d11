import * as v from 'valibot';
import { Failure } from '../../failure.ts';
import {
  type Box,
  boxShape,
  ROUNDS,
  lockShape,
  newLock,
  openLock,
  rewrapped,
  seal,
  unseal,
} from './crypto.ts';
import type { Change, Place } from './place.ts';
import { SCHEMA } from './shapes.ts';

/** The one key that says how all others are to be read. */
const HEAD = 'meta';
/** Every record's key begins with one of these; what else lies in the store is not ours to touch. */
export const KINDS = ['child:', 'consult:', 'index:', 'draft:'] as const;
const TRIES = 8;

const headShape = v.strictObject({
  schema: v.literal(SCHEMA),
  /** Changes whenever this does: who read another one has to read it anew. */
  stamp: v.string(),
  /** Changes when everything is deleted: what a window still has in hand is not written back. */
  epoch: v.string(),
  /** Names the data key; null where nothing is encrypted. */
  keyId: v.nullable(v.string()),
  lock: v.nullable(lockShape),
  /** Encryption that is being turned on or off: records of both kinds lie side by side. */
  turning: v.nullable(v.picklist(['on', 'off'])),
});
type Head = v.InferOutput<typeof headShape>;

const recordShape = v.strictObject({
  schema: v.literal(SCHEMA),
  /** Changes with every write, so that nobody writes over what they have not seen. */
  revision: v.string(),
  plain: v.optional(v.unknown()),
  box: v.optional(boxShape),
});
type StoredRecord = v.InferOutput<typeof recordShape>;

/** As long as nobody sets a passphrase there is no such record. */
const FRESH: Head = {
  schema: SCHEMA,
  stamp: '',
  epoch: '',
  keyId: null,
  lock: null,
  turning: null,
};

export interface Found<T> {
  readonly revision: string;
  readonly value: T;
}

/** A record to write; undefined deletes it. */
export interface Put {
  readonly key: string;
  readonly value: unknown;
  /** The revision it replaces, null for none; left out, whatever is there. */
  readonly expect?: string | null;
}

type Shape<T> = v.GenericSchema<unknown, T>;

/** Records behind an optional passphrase. It knows of keys and values, not of what they mean. */
export class Vault {
  readonly #place: Place;
  readonly #rounds: number;
  #head: Head = FRESH;
  #isNewer = false;
  #isStale = false;
  #key: CryptoKey | null = null;
  /** While this is set nothing is written: what was kept may have been cleared from outside. */
  isCleared = false;

  /** `rounds`: how much work a new passphrase shall cost; what is stored says its own. */
  constructor(place: Place, rounds = ROUNDS) {
    this.#place = place;
    this.#rounds = rounds;
  }

  get isEncrypted(): boolean {
    return this.#head.lock !== null;
  }

  get isLocked(): boolean {
    return this.#head.lock !== null && this.#key === null;
  }

  /** A newer edition wrote here: nothing is changed any more. */
  get isNewer(): boolean {
    return this.#isNewer;
  }

  /** Reads how the records are kept. Call it before anything else. */
  async start(): Promise<void> {
    this.#isStale = false;
    this.#take(await this.#place.get(HEAD));
  }

  lock(): void {
    if (this.#head.lock !== null) this.#key = null;
  }

  /** @throws Failure WrongPassphrase */
  async unlock(passphrase: string): Promise<void> {
    if (this.#head.lock === null) return;
    this.#key = await openLock(this.#head.lock, passphrase);
    await this.#turn();
  }

  /** Encrypts everything; goes on at the next `unlock` where it is interrupted. */
  async turnOn(passphrase: string): Promise<void> {
    if (this.#head.lock !== null) throw new Failure('RecordsChanged', 'encrypted already');
    const { lock, key } = await newLock(passphrase, this.#rounds);
    await this.#writeHead({ keyId: crypto.randomUUID(), lock, turning: 'on' });
    this.#key = key;
    await this.#turn();
  }

  /**
   * Decrypts everything.
   * @throws Failure WrongPassphrase
   */
  async turnOff(passphrase: string): Promise<void> {
    const { lock } = this.#head;
    if (lock === null) return;
    this.#key = await openLock(lock, passphrase);
    await this.#writeHead({ turning: 'off' });
    await this.#turn();
  }

  /**
   * Another passphrase for the same data key: no record is written.
   * @throws Failure WrongPassphrase
   */
  async change(passphrase: string, next: string): Promise<void> {
    const { lock } = this.#head;
    if (lock === null) throw new Failure('RecordsChanged', 'there is no passphrase to change');
    await this.#writeHead({ lock: await rewrapped(lock, passphrase, next, this.#rounds) });
  }

  /**
   * Forgets everything, the wrapped key first: what is left then can be read by nobody.
   * @throws Failure RecordsNewer, StorageBlocked
   */
  async wipe(): Promise<void> {
    if (this.#isNewer) throw new Failure('RecordsNewer', `schema ${SCHEMA} is not the newest here`);
    const next = { ...FRESH, stamp: crypto.randomUUID(), epoch: crypto.randomUUID() };
    await this.#place.change([HEAD], () => {
      this.#take(next); // at once: a write that is under way must not take it for another window's
      return [{ key: HEAD, value: next }];
    });
    this.#key = null;
    this.#isStale = false;
    for (const kind of KINDS) {
      const keys = (await this.#place.list(kind)).map(([key]) => key);
      await this.#place.change(keys, () => keys.map((key) => ({ key, value: undefined })));
    }
  }

  /** @throws Failure RecordsLocked, RecordDamaged */
  async read<T>(key: string, shape: Shape<T>): Promise<Found<T> | null> {
    const stored = await this.#place.get(key);
    return stored === undefined ? null : this.#open(key, stored, shape);
  }

  /** Every record of a kind, and the keys of those that cannot be read. */
  async readAll<T>(
    kind: (typeof KINDS)[number],
    shape: Shape<T>,
  ): Promise<{ found: Map<string, Found<T>>; damaged: string[] }> {
    const found = new Map<string, Found<T>>();
    const damaged: string[] = [];
    for (const [key, stored] of await this.#place.list(kind)) {
      try {
        found.set(key, await this.#open(key, stored, shape));
      } catch (error) {
        if (!(error instanceof Failure) || error.name !== 'RecordDamaged') throw error;
        damaged.push(key);
      }
    }
    return { found, damaged };
  }

  /**
   * Writes records in one transaction, together with changes of keys that are not records.
   * @returns false where a revision is not the expected one: nothing was written
   * @throws Failure RecordsNewer, RecordsLocked, RecordsChanged, StorageFull, StorageBlocked,
   * StorageBroken, StorageCleared
   */
  async write(puts: readonly Put[], others: readonly Change[] = []): Promise<boolean> {
    const { epoch } = this.#head;
    for (let i = 0; i < TRIES; i += 1) {
      this.#mayWrite();
      if (this.#head.epoch !== epoch) throw new Failure('RecordsChanged', 'everything was deleted');
      const head = this.#head;
      const changes = await Promise.all(puts.map((put) => this.#sealed(put, head)));
      const seen = { hasMoved: false, isOther: false };
      await this.#place.change([HEAD, ...puts.map(({ key }) => key)], ([stored, ...old]) => {
        seen.hasMoved = stampOf(stored) !== head.stamp;
        seen.isOther = puts.some(
          ({ expect }, j) => expect !== undefined && revisionOf(old[j]) !== expect,
        );
        return seen.hasMoved || seen.isOther ? [] : [...changes, ...others];
      });
      if (!seen.hasMoved) return !seen.isOther;
      await this.#follow();
    }
    throw new Failure('RecordsChanged', 'another window keeps changing how records are kept');
  }

  #mayWrite(): void {
    if (this.isCleared) throw new Failure('StorageCleared', 'the database was taken away');
    if (this.#isNewer) throw new Failure('RecordsNewer', `schema ${SCHEMA} is not the newest here`);
    if (this.#isStale) throw new Failure('RecordsChanged', 'everything was deleted elsewhere');
    if (this.isLocked) throw new Failure('RecordsLocked', 'no key in memory');
  }

  async #sealed({ key, value }: Put, head: Head): Promise<Change> {
    if (value === undefined) return { key, value };
    const stored = { schema: SCHEMA, revision: crypto.randomUUID() };
    if (this.#key === null || head.lock === null || head.turning === 'off') {
      return { key, value: { ...stored, plain: value } };
    }
    const box: Box = await seal(this.#key, key, SCHEMA, value);
    return { key, value: { ...stored, box } };
  }

  async #open<T>(key: string, stored: unknown, shape: Shape<T>): Promise<Found<T>> {
    const record = v.safeParse(recordShape, stored);
    if (!record.success) throw new Failure('RecordDamaged', `${key}: ${said(record.issues)}`);
    // Another window may have turned encryption on or off since this one looked.
    if ((record.output.box !== undefined) !== this.isEncrypted) await this.#follow();
    if (this.isLocked) throw new Failure('RecordsLocked', `${key}: no key in memory`);
    const value = v.safeParse(shape, await this.#content(key, record.output));
    if (!value.success) throw new Failure('RecordDamaged', `${key}: ${said(value.issues)}`);
    return { revision: record.output.revision, value: value.output };
  }

  async #content(key: string, { schema, plain, box }: StoredRecord): Promise<unknown> {
    if (box !== undefined) {
      if (this.#key === null) throw new Failure('RecordDamaged', `${key}: its data key is gone`);
      return unseal(this.#key, key, schema, box);
    }
    if (this.#head.lock !== null && this.#head.turning === null) {
      throw new Failure('RecordDamaged', `${key} is not encrypted, and all records are`);
    }
    return plain;
  }

  /** Brings every record into the form that was asked for, one at a time, then says that it is so. */
  async #turn(): Promise<void> {
    const { turning } = this.#head;
    if (turning === null) return;
    for (const kind of KINDS) {
      for (const [key, stored] of await this.#place.list(kind)) {
        const record = v.safeParse(recordShape, stored);
        if (!record.success || (record.output.box !== undefined) === (turning === 'on')) continue;
        try {
          const value = await this.#content(key, record.output);
          // Where another revision lies there by now, it was written in the new form.
          await this.write([{ key, value, expect: record.output.revision }]);
        } catch (error) {
          // Nobody can read it, in either form.
          if (!(error instanceof Failure) || error.name !== 'RecordDamaged') throw error;
        }
      }
    }
    const ended = turning === 'on' ? {} : { lock: null, keyId: null };
    await this.#writeHead({ turning: null, ...ended });
    if (this.#head.lock === null) this.#key = null;
  }

  /** Changes how records are kept, where nobody else has meanwhile. */
  async #writeHead(change: Partial<Head>): Promise<void> {
    if (this.isCleared) throw new Failure('StorageCleared', 'the database was taken away');
    if (this.#isNewer) throw new Failure('RecordsNewer', `schema ${SCHEMA} is not the newest here`);
    const { stamp } = this.#head;
    const next: Head = { ...this.#head, ...change, stamp: crypto.randomUUID() };
    const seen = { hasMoved: false };
    await this.#place.change([HEAD], ([stored]) => {
      seen.hasMoved = stampOf(stored) !== stamp;
      return seen.hasMoved ? [] : [{ key: HEAD, value: next }];
    });
    if (seen.hasMoved) throw new Failure('RecordsChanged', 'another window changed the passphrase');
    this.#head = next;
  }

  /** Reads anew how records are kept; the key stays where it is still the one. */
  async #follow(): Promise<void> {
    const { epoch } = this.#head;
    this.#take(await this.#place.get(HEAD));
    if (this.#head.epoch !== epoch) this.#isStale = true;
  }

  #take(stored: unknown): void {
    const { keyId } = this.#head;
    this.#isNewer = schemaOf(stored) > SCHEMA;
    if (this.#isNewer) return;
    if (stored === undefined) this.#head = FRESH;
    else {
      const head = v.safeParse(headShape, stored);
      if (!head.success) throw new Failure('RecordDamaged', `${HEAD}: ${said(head.issues)}`);
      this.#head = head.output;
    }
    if (this.#head.keyId !== keyId) this.#key = null;
  }
}

const said = (issues: readonly v.BaseIssue<unknown>[]): string =>
  issues.map((issue) => `${v.getDotPath(issue) ?? 'value'}: ${issue.message}`).join('; ');

/** The schema that a stored value says it follows; 0 where it says nothing. */
export function schemaOf(stored: unknown): number {
  const known = v.safeParse(v.object({ schema: v.number() }), stored);
  return known.success ? known.output.schema : 0;
}

/** What a writer compares: '' is no head; one that this edition cannot read is like no other. */
function stampOf(stored: unknown): string | null {
  if (stored === undefined) return '';
  const known = v.safeParse(v.object({ schema: v.literal(SCHEMA), stamp: v.string() }), stored);
  return known.success ? known.output.stamp : null;
}

function revisionOf(stored: unknown): string | null {
  if (stored === undefined) return null;
  const known = v.safeParse(v.object({ revision: v.string() }), stored);
  return known.success ? known.output.revision : '';
}
