import { Failure, failureName } from '../failure.ts';
import { sha256 } from '../format/hash.ts';
import { MAX_MANIFEST_BYTES, type FileInfo } from '../format/manifest.ts';

/** Files over the network. Nothing that is not what was asked for comes out of here. */

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** What a second try may mend: a broken connection, a bad copy on the way. */
const worthAnotherTry: readonly string[] = ['ShardTruncated', 'ShardCorrupt', 'Offline'];

/**
 * Fetches one file of a package, verified; tried a second time by itself where that may help.
 * @param onBytes is told how many bytes are here; a second try starts again at 0
 * @throws Failure NotFound, NotAShard, ShardTruncated, ShardCorrupt, Offline
 */
export async function downloadFile(
  fetchFn: Fetch,
  url: string,
  file: FileInfo,
  onBytes: (bytes: number) => void,
): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return await once(fetchFn, url, file, onBytes);
  } catch (error) {
    if (!worthAnotherTry.includes(failureName(error))) throw error;
    return await once(fetchFn, url, file, onBytes);
  }
}

/** Fetches a manifest: bytes only, nothing is known about them but that they are no web page. */
export async function downloadManifest(
  fetchFn: Fetch,
  url: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const response = await request(fetchFn, url);
  const { bytes, whole } = await body(response, MAX_MANIFEST_BYTES + 1, () => undefined);
  if (isWebPage(response, bytes)) throw webPage(url);
  if (!whole) throw new Failure('Offline', `${url}: the connection broke off`);
  return bytes;
}

async function once(
  fetchFn: Fetch,
  url: string,
  file: FileInfo,
  onBytes: (bytes: number) => void,
): Promise<Uint8Array<ArrayBuffer>> {
  const response = await request(fetchFn, url);
  // One byte more than expected is enough to know that the file is too long.
  const { bytes } = await body(response, file.bytes + 1, onBytes);
  const found = bytes.length === file.bytes ? await sha256(bytes) : null;
  if (found === file.sha256) return bytes;
  if (isWebPage(response, bytes)) throw webPage(url);
  if (found !== null) throw new Failure('ShardCorrupt', `${url}: SHA-256 is ${found}`);
  const length = bytes.length > file.bytes ? 'more' : bytes.length;
  throw new Failure('ShardTruncated', `${url}: ${length} bytes, not ${file.bytes}`);
}

async function request(fetchFn: Fetch, url: string): Promise<Response> {
  const response = await reach(fetchFn, url);
  if (response.ok) return response;
  await response.body?.cancel();
  const what = `${url}: HTTP ${response.status}`;
  throw new Failure(response.status < 500 ? 'NotFound' : 'Offline', what);
}

async function reach(fetchFn: Fetch, url: string): Promise<Response> {
  try {
    // The store is the cache: a second copy in the browser's own would only take room.
    return await fetchFn(url, { cache: 'no-store' });
  } catch (cause) {
    if (cause instanceof TypeError) {
      throw new Failure('Offline', `${url}: ${cause.message}`, { cause });
    }
    throw cause;
  }
}

/** The body up to `limit` bytes; `whole` is false where the connection broke off. */
async function body(
  response: Response,
  limit: number,
  onBytes: (bytes: number) => void,
): Promise<{ bytes: Uint8Array<ArrayBuffer>; whole: boolean }> {
  const reader = response.body?.getReader();
  const parts: Uint8Array[] = [];
  let length = 0;
  let whole = true;
  while (reader !== undefined && length < limit) {
    const part = await next(reader);
    if (part === 'end') break;
    if (part === 'broken') {
      whole = false;
      break;
    }
    parts.push(part);
    length += part.length;
    onBytes(Math.min(length, limit));
  }
  if (whole) await reader?.cancel();
  return { bytes: join(parts, Math.min(length, limit)), whole };
}

async function next(
  reader: ReadableStreamDefaultReader<Uint8Array>,
): Promise<Uint8Array | 'end' | 'broken'> {
  try {
    const { done, value } = await reader.read();
    return done ? 'end' : value;
  } catch (error) {
    // Fewer bytes than announced, or a reset: both are a TypeError of the network.
    if (error instanceof TypeError) return 'broken';
    throw error;
  }
}

function join(parts: readonly Uint8Array[], length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    const fits = part.subarray(0, length - at);
    bytes.set(fits, at);
    at += fits.length;
  }
  return bytes;
}

/** Servers that know only one page answer with it where a file is missing. */
function isWebPage(response: Response, bytes: Uint8Array): boolean {
  if (response.headers.get('content-type')?.includes('text/html') === true) return true;
  const start = new TextDecoder().decode(bytes.subarray(0, 64)).trimStart().toLowerCase();
  return start.startsWith('<!doctype') || start.startsWith('<html');
}

function webPage(url: string): Failure {
  return new Failure('NotAShard', `${url}: a web page came`);
}
