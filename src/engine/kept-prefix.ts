import { failureName } from '../failure.ts';
import { sha256 } from '../format/hash.ts';
import type { Backend } from './backend.ts';
import type { Session } from './session.ts';

/**
 * Where the host keeps bytes by name between visits. It may forget any of them at any time, and
 * tells its own troubles by itself: no call fails.
 */
export interface PrefixStore {
  /** Null for what is not there. */
  read(name: string): Promise<Uint8Array<ArrayBuffer> | null>;
  write(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  remove(name: string): Promise<void>;
}

/**
 * Shorter ones are not worth a read from storage and a hash: they are less than one pass of a software
 * driver (16 tokens), and a GPU computes them in the pass that the question needs anyway (64).
 */
export const LEAST_TOKENS = 16;
/** Longer ones are computed at every visit: 128 tokens of a 7B model with a cache of 16 bits. */
const MOST_BYTES = 64 << 20;
/** Changes with the order of the bytes. */
const EDITION = 1;
const SEAL_BYTES = 32;

/** The start that all prompts of one task and system text share, and what its keys and values depend on. */
export interface Prefix {
  readonly task: string;
  readonly routed: boolean;
  readonly tokens: readonly number[];
}

interface Wanted {
  readonly backend: Backend;
  readonly key: string;
  readonly tokens: readonly number[];
}

/**
 * Keys and values of what prompts of a task begin with, the package's system text or a person's own,
 * kept between visits. A record is a
 * SHA-256 and the bytes; what is hashed are a key and the bytes. The key says weights, task, tokens
 * and all that computes (kernels, types, device), so that a record of anything else, or one that
 * was changed or cut, has a wrong hash; such a one is removed and computed anew.
 */
export class KeptPrefixes {
  readonly #store: PrefixStore;
  readonly #manifestSha: string;
  /** What the store does not have; taken out of the cache after the next answer. */
  #wanted: Wanted | null = null;

  /** @param manifestSha SHA-256 of the manifest, which lists those of weights and adapter */
  constructor(store: PrefixStore, manifestSha: string) {
    this.#store = store;
    this.#manifestSha = manifestSha;
  }

  /**
   * Puts the kept start into an empty cache.
   * @returns how many tokens the cache holds now: all of the prefix, or none
   */
  async restore(backend: Backend, { task, routed, tokens }: Prefix): Promise<number> {
    this.#wanted = null;
    const { rows: access } = backend;
    if (access === undefined || !worthKeeping(backend, tokens)) return 0;
    const key = await sha256(
      bytesOf(JSON.stringify([EDITION, this.#manifestSha, task, routed, tokens, access.identity])),
    );
    const record = await this.#store.read(key);
    const rows = record && (await unsealed(key, record));
    if (rows?.length === access.bytes(tokens.length)) {
      access.write(rows, tokens.length);
      return tokens.length;
    }
    if (record !== null) await this.#store.remove(key);
    this.#wanted = { backend, key, tokens };
    return 0;
  }

  /**
   * Takes the start out of the cache of an answer that has ended, where the store lacks it. The copy
   * is under way when this returns its promise: the next answer need not wait, and what is slow
   * waits for `idle`.
   */
  async keep(backend: Backend, session: Session, idle: () => Promise<void>): Promise<void> {
    const wanted = this.#wanted;
    if (wanted === null || wanted.backend !== backend || !session.startsWith(wanted.tokens)) return;
    this.#wanted = null;
    let rows: Uint8Array<ArrayBuffer> | undefined;
    try {
      rows = await backend.rows?.read(wanted.tokens.length);
    } catch (error) {
      // The next answer meets the loss and deals with it.
      if (failureName(error) !== 'DeviceLost') throw error;
    }
    if (rows === undefined) return;
    await idle();
    await this.#store.write(wanted.key, await sealed(wanted.key, rows));
  }
}

/** Whether the start is neither too short nor too large to be kept. */
export function worthKeeping({ rows }: Backend, tokens: readonly number[]): boolean {
  if (rows === undefined || tokens.length < LEAST_TOKENS) return false;
  return rows.bytes(tokens.length) <= MOST_BYTES;
}

const bytesOf = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);

async function sealOf(key: string, rows: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  const hashed = new Uint8Array(key.length + rows.length);
  hashed.set(bytesOf(key));
  hashed.set(rows, key.length);
  return new Uint8Array(await crypto.subtle.digest('SHA-256', hashed));
}

async function sealed(
  key: string,
  rows: Uint8Array<ArrayBuffer>,
): Promise<Uint8Array<ArrayBuffer>> {
  const record = new Uint8Array(SEAL_BYTES + rows.length);
  record.set(await sealOf(key, rows));
  record.set(rows, SEAL_BYTES);
  return record;
}

/** The bytes of a record; null where they are not what was kept under this key. */
async function unsealed(
  key: string,
  record: Uint8Array<ArrayBuffer>,
): Promise<Uint8Array<ArrayBuffer> | null> {
  if (record.length < SEAL_BYTES) return null;
  const rows = record.slice(SEAL_BYTES);
  const seal = await sealOf(key, rows);
  return seal.every((byte, i) => byte === record[i]) ? rows : null;
}
