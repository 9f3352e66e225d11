import { generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { failureName } from '../failure.ts';
import { checkSignature, SIGNATURE_FILE_BYTES } from './signature.ts';

const pairs = [1, 2, 3].map(() => generateKeyPairSync('ed25519'));
const base64 = (key: KeyObject | undefined) =>
  key?.export({ format: 'der', type: 'spki' }).toString('base64') ?? '';
const [first = '', second = '', third = ''] = pairs.map(({ publicKey }) => base64(publicKey));
const manifest = new TextEncoder().encode('{"format":1}\n');
const signatureBy = (pair: number, bytes = manifest) => {
  const key = pairs[pair]?.privateKey;
  if (key === undefined) throw new Error('no key');
  return new TextEncoder().encode(`${sign(null, bytes, key).toString('base64')}\n`);
};

async function outcome(
  signature: Uint8Array | null,
  keys: readonly string[],
  bytes = manifest,
): Promise<string> {
  try {
    await checkSignature(bytes, signature, keys);
  } catch (error) {
    return `${failureName(error)}: ${error instanceof Error ? error.message : ''}`;
  }
  return 'good';
}

afterEach(() => vi.unstubAllGlobals());

describe('a signature', () => {
  it('by a key of the build is good, whichever slot it has', async () => {
    expect(signatureBy(0)).toHaveLength(SIGNATURE_FILE_BYTES);
    expect(await outcome(signatureBy(0), [first])).toBe('good');
    expect(await outcome(signatureBy(0), [first, second])).toBe('good');
    expect(await outcome(signatureBy(1), [first, second])).toBe('good');
  });

  it('by another key, or over other bytes, is not', async () => {
    const wrong = 'BadSignature: manifest.sig: ';
    expect(await outcome(signatureBy(2), [first])).toBe(
      `${wrong}not by the key of this build, or manifest.json was changed`,
    );
    expect(await outcome(signatureBy(2), [first, second])).toContain(
      `${wrong}by none of the 2 keys`,
    );
    expect(await outcome(signatureBy(2), [first, second, third])).toBe('good');
    for (let at = 0; at < manifest.length; at++) {
      const changed = manifest.slice();
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(await outcome(signatureBy(0), [first], changed)).toContain(wrong);
    }
    expect(await outcome(signatureBy(0), [])).toContain(wrong);
  });

  it('that is none is told apart', async () => {
    expect(await outcome(null, [first])).toMatch(/^BadSignature: no manifest\.sig; /);
    const text = new TextDecoder().decode(signatureBy(0)).trim();
    for (const broken of [
      '',
      'hello',
      text.slice(4),
      `${text}AAAA`,
      `${text} `.repeat(2),
      '中文',
    ]) {
      expect(await outcome(new TextEncoder().encode(broken), [first])).toContain(
        'BadSignature: manifest.sig: not 64 bytes in base64',
      );
    }
  });

  it.each([
    ['no base64', 'key'],
    ['empty', ''],
    ['the raw 32 bytes', Buffer.alloc(32, 7).toString('base64')],
    ['a key for X25519', base64(generateKeyPairSync('x25519').publicKey)],
    ['a key for RSA', base64(generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey)],
  ])('is refused where a key of the build is %s', async (_, key) => {
    expect(await outcome(signatureBy(0), [key, first])).toBe(
      'BadSignature: key 1 of this build is no Ed25519 public key in base64',
    );
  });

  it('cannot be checked where the browser does not know Ed25519, and that is said', async () => {
    const unknown = () =>
      Promise.reject(new DOMException('Unrecognized name', 'NotSupportedError'));
    vi.stubGlobal('crypto', { subtle: { importKey: unknown } });
    expect(await outcome(signatureBy(0), [first])).toBe(
      'BadSignature: this browser cannot check Ed25519 signatures (NotSupportedError)',
    );
    vi.stubGlobal('crypto', {});
    expect(await outcome(signatureBy(0), [first])).toContain('has to come over HTTPS');
  });
});
