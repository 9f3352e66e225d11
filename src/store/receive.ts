import { Failure, failureName } from '../failure.ts';
import { sha256 } from '../format/hash.ts';
import type { FileInfo } from '../format/manifest.ts';
import type { Journal } from './journal.ts';
import { looksLikePage, stopped, webPage, type Delivery, type Origin } from './origin.ts';
import type { Place } from './place.ts';

/** One file of a package, brought from its origin into the store: streamed, resumed, verified. */

/** What another try may mend: a broken connection, a bad copy on the way, a busy server. */
const worthAnotherTry: readonly string[] = [
  'ShardTruncated',
  'ShardCorrupt',
  'Offline',
  'ServerError',
  'Stalled',
];
/** Tries without a new byte, before it is given up. */
const TRIES = 3;
const FIRST_PAUSE_MS = 1000;
/** So many bytes, or what comes in so long a time, may be lost to a crash and are fetched again. */
const FLUSH_BYTES = 1 << 20;
const FLUSH_MS = 1000;

export interface ReceiveOptions {
  /** Waits before another try; a test does not. */
  readonly sleep?: (ms: number) => Promise<void>;
  readonly flushBytes?: number;
}

export interface Receiver extends Required<ReceiveOptions> {
  readonly place: Place;
  readonly folder: string;
  readonly origin: Origin;
  readonly journal: Journal;
  readonly signal: AbortSignal;
  /** Told how many bytes of the file are here; fewer than before where it begins anew. */
  readonly onBytes: (file: FileInfo, bytes: number) => void;
}

export const receiveDefaults: Required<ReceiveOptions> = {
  sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
  flushBytes: FLUSH_BYTES,
};

/**
 * Brings one file here, going on where an earlier try broke off, and verifies what lies in the store
 * then. Tried again by itself where that may help, and for as long as every try brings new bytes.
 * @throws Failure NotFound, NotAShard, ShardTruncated, ShardCorrupt, ServerError, Stalled, Offline,
 * BadFolder, StorageFull, StorageBlocked, and Cancelled where `signal` was; bytes that were flushed stay
 */
export async function receiveFile(receiver: Receiver, file: FileInfo): Promise<void> {
  let furthest = 0;
  let fruitless = 0;
  for (;;) {
    let reached = 0;
    try {
      await once(receiver, file, (bytes) => {
        reached = Math.max(reached, bytes);
        receiver.onBytes(file, bytes);
      });
      return;
    } catch (error) {
      if (receiver.signal.aborted) throw stopped();
      if (!worthAnotherTry.includes(failureName(error))) throw error;
      fruitless = reached > furthest ? 1 : fruitless + 1;
      if (fruitless >= TRIES || !receiver.origin.network) throw error;
      furthest = Math.max(furthest, reached);
      await receiver.sleep(FIRST_PAUSE_MS * 2 ** (fruitless - 1));
      if (receiver.signal.aborted) throw stopped();
    }
  }
}

/** How many bytes of a file an interrupted install left behind, to be gone on from. */
export async function partOf(
  place: Place,
  folder: string,
  journal: Journal,
  file: FileInfo,
): Promise<number> {
  const { part } = journal.state;
  if (part?.file !== file.name || part.bytes > file.bytes) return 0;
  const size = await place.size(`${folder}/${file.name}`);
  return size === null || size < part.bytes ? 0 : part.bytes;
}

async function once(
  receiver: Receiver,
  file: FileInfo,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const { place, folder, journal, origin, signal } = receiver;
  const path = `${folder}/${file.name}`;
  const kept = await partOf(place, folder, journal, file);
  if (kept < file.bytes) {
    const validator = kept > 0 ? (journal.state.part?.validator ?? null) : null;
    const delivery = await origin.open(file, kept, validator, signal);
    try {
      await store(receiver, file, delivery, onBytes);
    } finally {
      await delivery.cancel();
    }
  }
  onBytes(file.bytes);
  const bytes = await place.read(path);
  const found = bytes === null ? 'nothing' : await sha256(bytes);
  if (found === file.sha256) return;
  // The bytes are no use to anybody: the next try starts from the first one.
  await journal.write({ part: null });
  await place.remove(path);
  if (bytes !== null && looksLikePage(bytes)) throw webPage(file.name);
  throw new Failure('ShardCorrupt', `${file.name}: SHA-256 is ${found}`);
}

/** Writes a delivery behind what is there, flushing and noting in the journal how far it is. */
async function store(
  { place, folder, journal, flushBytes }: Receiver,
  file: FileInfo,
  delivery: Delivery,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const { from, validator } = delivery;
  const { name } = file;
  const path = `${folder}/${name}`;
  // What is cut off next may not be believed in any more.
  if (journal.state.part?.file !== name || journal.state.part.bytes > from) {
    await journal.write({ part: { file: name, bytes: from, validator } });
  }
  const writer = await place.append(path, from);
  let at = from;
  let flushed = from;
  let flushedAt = performance.now();
  const note = async (): Promise<void> => {
    await writer.flush();
    flushed = at;
    flushedAt = performance.now();
    await journal.write({ part: { file: name, bytes: at, validator } });
  };
  let head = new Uint8Array();
  try {
    let failed: { readonly error: unknown } | null = null;
    try {
      for (let part = await delivery.next(); part !== null; part = await delivery.next()) {
        if (at === 0) head = part.slice(0, 64);
        // One byte more than expected is enough to know that the file is another one.
        if (at + part.length > file.bytes) throw wrongLength(file, 'more', head);
        await writer.write(part);
        at += part.length;
        onBytes(at);
        const isLong = performance.now() - flushedAt >= FLUSH_MS;
        if (at - flushed >= flushBytes || isLong) await note();
      }
      if (at < file.bytes) failed = { error: wrongLength(file, at, head) };
    } catch (error) {
      failed = { error };
    }
    // What came before a failure stays. Where the store itself fails there is nothing to note.
    if (at > flushed && (failed === null || isOfSource(failed.error))) await note();
    if (failed !== null) throw failed.error;
  } finally {
    await writer.close();
  }
}

/** Whether a failure is of what delivers, and what it delivered before is part of the file. */
function isOfSource(error: unknown): boolean {
  const name = failureName(error);
  return (
    ['Cancelled', 'BadFolder'].includes(name) ||
    (worthAnotherTry.includes(name) && !(error instanceof TooLong))
  );
}

/** The file that comes is longer than the manifest says: another one. */
class TooLong extends Failure {}

function wrongLength(file: FileInfo, found: number | 'more', head: Uint8Array): Failure {
  if (looksLikePage(head)) return webPage(file.name);
  const what = `${file.name}: ${found} bytes, not ${file.bytes}`;
  return new (found === 'more' ? TooLong : Failure)('ShardTruncated', what);
}
