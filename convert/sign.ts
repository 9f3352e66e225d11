import {
  createHash,
  createPrivateKey,
  createPublicKey,
  sign,
  verify,
  type KeyObject,
} from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '../src/failure.ts';
import { parseManifest } from '../src/format/layout.ts';
import { SIGNATURE_FILE } from '../src/format/signature.ts';
import { readWhole } from './files.ts';

/** Writes and checks `manifest.sig` (src/format/signature.ts) with keys in PEM files. */

const SIGNATURE_BYTES = 64;

/** Who signed: the fingerprint of a key, and its public half as a build of the app takes it. */
export interface Signer {
  readonly fingerprint: string;
  readonly publicKey: string;
}

/**
 * Signs a package with the private key of a PEM file.
 * @throws Failure NotFound, BadManifest, Usage (no Ed25519 private key)
 */
export async function signPackage(folder: string, keyFile: string): Promise<Signer> {
  const key = readKey(await keyBytes(keyFile), keyFile, createPrivateKey);
  const manifest = await manifestBytes(folder);
  parseManifest(manifest); // what no reader accepts is not vouched for
  const signature = sign(null, manifest, key).toString('base64');
  await writeFile(join(folder, SIGNATURE_FILE), `${signature}\n`, { flush: true });
  const publicKey = createPublicKey(key);
  const der = publicKey.export({ format: 'der', type: 'spki' });
  return { fingerprint: fingerprint(publicKey), publicKey: der.toString('base64') };
}

/**
 * Whether the manifest is the one that the key's owner signed.
 * @throws Failure NotFound (package, key or signature), Usage (no Ed25519 public key)
 */
export async function checkSignature(
  folder: string,
  keyFile: string,
): Promise<{ readonly ok: boolean; readonly what: string }> {
  const key = readKey(await keyBytes(keyFile), keyFile, createPublicKey);
  const hint = 'the package is not signed; convert sign makes it';
  const text = new TextDecoder().decode(await readWhole(folder, SIGNATURE_FILE, hint)).trim();
  const signature = Buffer.from(text, 'base64');
  if (signature.length !== SIGNATURE_BYTES || signature.toString('base64') !== text) {
    return { ok: false, what: `${SIGNATURE_FILE}: no signature of ${SIGNATURE_BYTES} bytes` };
  }
  const ok = verify(null, await manifestBytes(folder), key, signature);
  const name = fingerprint(key);
  if (ok) return { ok, what: `${SIGNATURE_FILE}: signed by key ${name}` };
  return { ok, what: `${SIGNATURE_FILE}: not by key ${name}, or manifest.json was changed` };
}

function manifestBytes(folder: string): Promise<Uint8Array> {
  return readWhole(folder, 'manifest.json', 'this is no package');
}

function keyBytes(file: string): Promise<Uint8Array> {
  return readWhole('', file, 'openssl genpkey -algorithm ed25519 makes a private key');
}

function readKey(pem: Uint8Array, file: string, read: (pem: Buffer) => KeyObject): KeyObject {
  let key: KeyObject;
  try {
    key = read(Buffer.from(pem));
  } catch (cause) {
    const what = `no ${read === createPrivateKey ? 'private' : 'public'} key in PEM without a password`;
    throw new Failure('Usage', `${file}: ${what}`, { cause });
  }
  if (key.asymmetricKeyType === 'ed25519') return key;
  throw new Failure('Usage', `${file}: a key for ${key.asymmetricKeyType}, not for ed25519`);
}

/** The first half of the SHA-256 of a public key. */
function fingerprint(key: KeyObject): string {
  const der = key.export({ format: 'der', type: 'spki' });
  return createHash('sha256').update(der).digest('hex').slice(0, 32);
}
