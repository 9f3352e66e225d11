import { Failure } from '../failure.ts';

/**
 * `manifest.sig`: an Ed25519 signature (RFC 8032) over the bytes of manifest.json, in base64. The
 * manifest has the SHA-256 of every file, so it speaks for the whole package. `convert sign` writes it.
 */

export const SIGNATURE_FILE = 'manifest.sig';
/** What `convert sign` writes: 64 bytes in base64, and the end of the line. */
export const SIGNATURE_FILE_BYTES = 89;
const SIGNATURE_BYTES = 64;
/** The DER before the 32 bytes of an Ed25519 public key (RFC 8410, section 4). */
const SPKI_PREFIX = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const KEY_BYTES = 32;

/**
 * Checks a manifest before anything in it is believed.
 * @param manifest the bytes of manifest.json
 * @param signature the bytes of manifest.sig; null where there is none
 * @param keys public keys in base64, as a PEM file has them between its two lines: one has to fit
 * @throws Failure BadSignature: no signature, a wrong one, a key that is none, or no Ed25519 here
 */
export async function checkSignature(
  manifest: Uint8Array<ArrayBuffer>,
  signature: Uint8Array | null,
  keys: readonly string[],
): Promise<void> {
  if (signature === null) throw bad(`no ${SIGNATURE_FILE}; \`convert sign\` writes it`);
  const text = new TextDecoder().decode(signature).trim();
  const bytes = bytesOf(text);
  if (bytes?.length !== SIGNATURE_BYTES) {
    throw bad(`${SIGNATURE_FILE}: not ${SIGNATURE_BYTES} bytes in base64`);
  }
  const { subtle } = crypto as { readonly subtle?: SubtleCrypto };
  if (subtle === undefined) throw bad('no Web Crypto: the page has to come over HTTPS');
  for (const [i, key] of keys.entries()) {
    const der = bytesOf(key);
    if (der === null || !isPublicKey(der)) {
      throw bad(`key ${i + 1} of this build is no Ed25519 public key in base64`);
    }
    try {
      const imported = await subtle.importKey('spki', der, 'Ed25519', false, ['verify']);
      if (await subtle.verify('Ed25519', imported, bytes, manifest)) return;
    } catch (cause) {
      if (!(cause instanceof DOMException)) throw cause;
      const what = `this browser cannot check Ed25519 signatures (${cause.name})`;
      throw new Failure('BadSignature', what, { cause });
    }
  }
  const many = keys.length === 1 ? 'the key' : `none of the ${keys.length} keys`;
  const not = keys.length === 1 ? 'not by' : 'by';
  throw bad(`${SIGNATURE_FILE}: ${not} ${many} of this build, or manifest.json was changed`);
}

/** The bytes of base64; null for anything else. */
function bytesOf(base64: string): Uint8Array<ArrayBuffer> | null {
  if (base64.length % 4 !== 0 || !/^[A-Za-z0-9+/]+={0,2}$/.test(base64)) return null;
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

function isPublicKey(der: Uint8Array): boolean {
  if (der.length !== SPKI_PREFIX.length + KEY_BYTES) return false;
  return SPKI_PREFIX.every((byte, i) => der[i] === byte);
}

function bad(what: string): Failure {
  return new Failure('BadSignature', what);
}
