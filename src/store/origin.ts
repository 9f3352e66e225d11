import { Failure } from '../failure.ts';
import { MAX_MANIFEST_BYTES, type FileInfo } from '../format/manifest.ts';
import type { PackageOrigin } from './journal.ts';

/** Where the files of a package come from: a server, a folder. One code path installs from both. */

export interface Origin {
  /** What is written down about it, to go on later. */
  readonly source: PackageOrigin;
  /** Whether its bytes come over the network. */
  readonly network: boolean;
  /**
   * The bytes of manifest.json: nothing is known about them but that they are no web page.
   * @throws Failure NotFound, NotAShard, ServerError, Stalled, Offline, BadFolder
   */
  manifest(signal: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * Begins to deliver a file. It is asked for the bytes behind `from` and may give the whole file
   * instead: where it cannot do better, or where the file is not what `validator` stands for.
   * @throws Failure NotFound, NotAShard, ShardTruncated, ServerError, Stalled, Offline, BadFolder
   */
  open(
    file: FileInfo,
    from: number,
    validator: string | null,
    signal: AbortSignal,
  ): Promise<Delivery>;
}

export interface Delivery {
  /** The file's offset of the first byte that comes. */
  readonly from: number;
  /** What to show the next time, to learn whether the file is the same; null where nothing can. */
  readonly validator: string | null;
  /** The next bytes; null at the end. @throws Failure ShardTruncated, Stalled, BadFolder */
  next(): Promise<Uint8Array<ArrayBuffer> | null>;
  /** Wants no more. */
  cancel(): Promise<void>;
}

/** Servers that know only one page answer with it where a file is missing. */
export function looksLikePage(bytes: Uint8Array): boolean {
  const start = new TextDecoder().decode(bytes.subarray(0, 64)).trimStart().toLowerCase();
  return start.startsWith('<!doctype') || start.startsWith('<html');
}

/** The whole of a delivery that is a manifest; one byte too many is enough to refuse it later. */
export async function manifestOf(
  delivery: Delivery,
  what: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(MAX_MANIFEST_BYTES + 1);
  let length = 0;
  for (let part = await delivery.next(); part !== null; part = await delivery.next()) {
    const fits = part.subarray(0, bytes.length - length);
    bytes.set(fits, length);
    length += fits.length;
    if (length === bytes.length) break;
  }
  await delivery.cancel();
  const whole = bytes.slice(0, length);
  if (looksLikePage(whole)) throw webPage(what);
  return whole;
}

export function webPage(what: string): Failure {
  return new Failure('NotAShard', `${what}: a web page came`);
}

/** What ends work that the person stopped. */
export function stopped(): Failure {
  return new Failure('Cancelled', 'stopped by the person');
}
