import { Failure, failureName } from '../failure.ts';
import { checkSignature, SIGNATURE_FILE, SIGNATURE_FILE_BYTES } from '../format/signature.ts';
import type { Origin } from './origin.ts';
import type { Place } from './place.ts';

/**
 * Whose packages this build of the app takes. Built with VITE_PACKAGE_KEY, and VITE_PACKAGE_KEY_NEXT
 * while a key is replaced, it takes only packages that one of these keys has signed; built without,
 * as it ships, nobody asks for a signature.
 */
export const packageKeys: readonly string[] = [
  import.meta.env.VITE_PACKAGE_KEY,
  import.meta.env.VITE_PACKAGE_KEY_NEXT,
].filter((key): key is string => key !== undefined && key !== '');

/** A manifest that may be read, and what vouches for it; null where nobody has to. */
export interface SignedManifest {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly signature: Uint8Array<ArrayBuffer> | null;
}

/** What an origin says where it has no such file, or another one by that name. */
const isUnsigned = (error: unknown): boolean =>
  ['NotFound', 'NotAShard', 'ShardTruncated'].includes(failureName(error));

/**
 * The manifest of a package, its signature checked before anything of it is parsed.
 * @throws Failure BadSignature, and what the origin throws
 */
export async function fetchManifest(
  origin: Origin,
  keys: readonly string[],
  signal: AbortSignal,
): Promise<SignedManifest> {
  const bytes = await origin.manifest(signal);
  if (keys.length === 0) return { bytes, signature: null };
  const signature = await fetchSignature(origin, signal);
  await checkSignature(bytes, signature, keys);
  return { bytes, signature };
}

async function fetchSignature(
  origin: Origin,
  signal: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  const file = { name: SIGNATURE_FILE, bytes: SIGNATURE_FILE_BYTES, sha256: '' };
  const found = new Uint8Array(SIGNATURE_FILE_BYTES);
  let length = 0;
  try {
    const delivery = await origin.open(file, 0, null, signal);
    for (let part = await delivery.next(); part !== null; part = await delivery.next()) {
      found.set(part.subarray(0, found.length - length), Math.min(length, found.length));
      length += part.length;
      if (length > found.length) break;
    }
    await delivery.cancel();
  } catch (cause) {
    if (!isUnsigned(cause)) throw cause;
    const what = cause instanceof Error ? cause.message : '';
    throw new Failure('BadSignature', `${SIGNATURE_FILE}: ${what}`, { cause });
  }
  if (length <= found.length) return found.slice(0, length);
  throw new Failure('BadSignature', `${SIGNATURE_FILE}: more than ${SIGNATURE_FILE_BYTES} bytes`);
}

/**
 * Checks a package that is here; one of a build without keys may have no signature.
 * @throws Failure BadSignature
 */
export async function checkStored(
  place: Place,
  folder: string,
  manifest: Uint8Array<ArrayBuffer>,
  keys: readonly string[],
): Promise<void> {
  if (keys.length === 0) return;
  await checkSignature(manifest, await place.read(`${folder}/${SIGNATURE_FILE}`), keys);
}
