import * as v from 'valibot';
import { Failure } from '../../failure.ts';

/**
 * Encryption at rest. A random data key (AES-256-GCM) encrypts every record with a fresh nonce and
 * binds it to its key in the store; the data key lies there wrapped by a key from the passphrase.
 * It protects a device that is lost or looked into, not one that runs somebody else's programs.
 */

/** PBKDF2-HMAC-SHA-256: what the OWASP Password Storage Cheat Sheet asks for (2023). */
export const ROUNDS = 600_000;
/** A stored number outside of this is no number that this program wrote, or will write. */
const FEWEST_ROUNDS = 10_000;
const MOST_ROUNDS = 10_000_000;
const NONCE_BYTES = 12;
const KEY_BYTES = 32;
const TAG_BYTES = 16;

const bytes = (least: number, most: number) =>
  v.pipe(
    v.instance(Uint8Array),
    v.check(({ length }) => length >= least && length <= most, 'a wrong number of bytes'),
  );

/** What lies beside the records: how the passphrase becomes a key, and the data key it wraps. */
export const lockShape = v.strictObject({
  kdf: v.literal('PBKDF2-SHA-256'),
  rounds: v.pipe(v.number(), v.integer(), v.minValue(FEWEST_ROUNDS), v.maxValue(MOST_ROUNDS)),
  salt: bytes(16, 64),
  nonce: bytes(NONCE_BYTES, NONCE_BYTES),
  wrapped: bytes(KEY_BYTES + TAG_BYTES, KEY_BYTES + TAG_BYTES),
});

export const boxShape = v.strictObject({
  nonce: bytes(NONCE_BYTES, NONCE_BYTES),
  data: v.instance(Uint8Array),
});

export type Lock = v.InferOutput<typeof lockShape>;
export type Box = v.InferOutput<typeof boxShape>;

const random = (length: number): Uint8Array<ArrayBuffer> =>
  crypto.getRandomValues(new Uint8Array(length));
const utf8 = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);
/** A copy in memory of its own, which is what WebCrypto's types ask for. */
const own = (data: Uint8Array): Uint8Array<ArrayBuffer> => new Uint8Array(data);

/** The same passphrase typed on another keyboard is the same key. */
async function wrappingKey(
  passphrase: string,
  { rounds, salt }: Pick<Lock, 'rounds' | 'salt'>,
): Promise<CryptoKey> {
  const typed = utf8(passphrase.normalize('NFKC'));
  const base = await crypto.subtle.importKey('raw', typed, 'PBKDF2', false, ['deriveKey']);
  return crypto.subtle.deriveKey(
    { name: 'PBKDF2', hash: 'SHA-256', iterations: rounds, salt: own(salt) },
    base,
    { name: 'AES-GCM', length: 8 * KEY_BYTES },
    false,
    ['encrypt', 'decrypt'],
  );
}

/** Wraps a data key; the parameters are bound to it, so that nobody can weaken them in the store. */
async function wrap(
  raw: Uint8Array<ArrayBuffer>,
  passphrase: string,
  rounds: number,
): Promise<Lock> {
  const made = { kdf: 'PBKDF2-SHA-256', rounds, salt: random(16) } as const;
  const key = await wrappingKey(passphrase, made);
  const nonce = random(NONCE_BYTES);
  const additionalData = utf8(`pediatricsgpt data key, ${made.kdf} ${made.rounds}`);
  const wrapped = await crypto.subtle.encrypt(
    { name: 'AES-GCM', iv: nonce, additionalData },
    key,
    raw,
  );
  return { ...made, nonce, wrapped: new Uint8Array(wrapped) };
}

async function unwrap(lock: Lock, passphrase: string): Promise<Uint8Array<ArrayBuffer>> {
  const key = await wrappingKey(passphrase, lock);
  const additionalData = utf8(`pediatricsgpt data key, ${lock.kdf} ${lock.rounds}`);
  const algorithm = { name: 'AES-GCM', iv: own(lock.nonce), additionalData };
  try {
    return new Uint8Array(await crypto.subtle.decrypt(algorithm, key, own(lock.wrapped)));
  } catch (error) {
    throw new Failure('WrongPassphrase', 'the data key does not unwrap', { cause: error });
  }
}

/** Makes the data key that stays in memory and cannot be read back; forgets the bytes. */
async function dataKey(raw: Uint8Array<ArrayBuffer>): Promise<CryptoKey> {
  const key = await crypto.subtle.importKey('raw', raw, 'AES-GCM', false, ['encrypt', 'decrypt']);
  raw.fill(0);
  return key;
}

/** A new data key and its wrapping. */
export async function newLock(
  passphrase: string,
  rounds: number,
): Promise<{ lock: Lock; key: CryptoKey }> {
  const raw = random(KEY_BYTES);
  const lock = await wrap(raw, passphrase, rounds);
  return { lock, key: await dataKey(raw) };
}

/** @throws Failure WrongPassphrase */
export async function openLock(lock: Lock, passphrase: string): Promise<CryptoKey> {
  return dataKey(await unwrap(lock, passphrase));
}

/**
 * The same data key under another passphrase.
 * @throws Failure WrongPassphrase
 */
export async function rewrapped(
  lock: Lock,
  passphrase: string,
  next: string,
  rounds: number,
): Promise<Lock> {
  const raw = await unwrap(lock, passphrase);
  const made = await wrap(raw, next, rounds);
  raw.fill(0);
  return made;
}

/** What a record is bound to: its place in the store and the schema it follows. */
function binding(key: string, schema: number): Uint8Array<ArrayBuffer> {
  return utf8(`${key}\n${schema}`);
}

/** Encrypts a value that JSON can hold, for one key of the store. */
export async function seal(
  key: CryptoKey,
  name: string,
  schema: number,
  value: unknown,
): Promise<Box> {
  const nonce = random(NONCE_BYTES);
  const additionalData = binding(name, schema);
  const plain = utf8(JSON.stringify(value));
  const data = await crypto.subtle.encrypt(
    { name: 'AES-GCM', iv: nonce, additionalData },
    key,
    plain,
  );
  return { nonce, data: new Uint8Array(data) };
}

/** @throws Failure RecordDamaged where it was altered, or sealed for another key or schema */
export async function unseal(
  key: CryptoKey,
  name: string,
  schema: number,
  box: Box,
): Promise<unknown> {
  const algorithm = {
    name: 'AES-GCM',
    iv: own(box.nonce),
    additionalData: binding(name, schema),
  };
  try {
    const plain = await crypto.subtle.decrypt(algorithm, key, own(box.data));
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(plain));
  } catch (error) {
    throw new Failure('RecordDamaged', `${name} does not decrypt`, { cause: error });
  }
}
