import { Failure, failureName } from '../failure.ts';
import { sha256 } from '../format/hash.ts';
import { parseManifest } from '../format/layout.ts';
import type { FileInfo, Manifest } from '../format/manifest.ts';
import { SIGNATURE_FILE } from '../format/signature.ts';
import type { LoadProgress } from '../worker/api.ts';
import { Journal } from './journal.ts';
import {
  folderOf,
  isFrom,
  keyOf,
  MANIFEST,
  READY,
  readModel,
  readModels,
  removeModel,
  sweepFolder,
  usedByAll,
} from './library.ts';
import { stopped, type Origin } from './origin.ts';
import type { Place } from './place.ts';
import {
  partOf,
  receiveDefaults,
  receiveFile,
  type ReceiveOptions,
  type Receiver,
} from './receive.ts';
import { fetchManifest, packageKeys, type SignedManifest } from './signed.ts';

/** Brings a package here, from wherever it comes: one path for a server, a folder and picked files. */

/** Looks at a manifest before any other file is asked for; throws where it is of no use here. */
export type AcceptManifest = (
  manifest: Manifest,
  bytes: Uint8Array<ArrayBuffer>,
) => void | Promise<void>;

/** Runs work while nobody else touches a package, waiting for whoever does. */
export type Exclusive = <T>(key: string, work: () => Promise<T>) => Promise<T>;

export interface InstallOptions extends ReceiveOptions {
  readonly accept?: AcceptManifest;
  /** Public keys, one of which has to have signed the package; those of the build if nothing is said. */
  readonly keys?: readonly string[];
  readonly exclusive?: Exclusive;
  /** Aborted to stop; what is here stays, and the next install of the package goes on from it. */
  readonly signal?: AbortSignal;
  /** Told the package's key as soon as it is known. */
  readonly onKey?: (key: string) => void;
}

export interface Installed {
  readonly key: string;
  readonly manifestSha: string;
  /** Files that came this time. */
  readonly fetched: readonly string[];
}

/**
 * Makes the package whole in `place`: files that are here and right stay, a file that broke off goes
 * on where it was, and READY says at the end that everything was verified.
 * @throws Failure NotFound, NotAShard, ShardTruncated, ShardCorrupt, ServerError, Stalled, Offline,
 * BadFolder, BadSignature, BadManifest, StorageFull, StorageBlocked, Cancelled, and what `accept` throws; what is
 * verified or flushed by then stays. StorageCleared where what had come was cleared meanwhile: nothing stays then
 */
export async function install(
  origin: Origin,
  place: Place,
  onProgress: (progress: LoadProgress) => void,
  options: InstallOptions = {},
): Promise<Installed> {
  const signal = options.signal ?? new AbortController().signal;
  const { network } = origin;
  const step = { phase: 'manifest', file: MANIFEST, network } as const;
  onProgress({ ...step, bytesDone: 0, bytesTotal: 0 });
  const signed = await fetchManifest(origin, options.keys ?? packageKeys, signal);
  const { bytes } = signed;
  const manifest = parseManifest(bytes);
  onProgress({ ...step, bytesDone: bytes.length, bytesTotal: bytes.length });
  await options.accept?.(manifest, bytes);
  const manifestSha = await sha256(bytes);
  const key = keyOf(manifest.id, manifestSha);
  options.onKey?.(key);
  const exclusive: Exclusive = options.exclusive ?? ((_, work) => work());
  const fetched = await exclusive(key, async () => {
    const journal = await open(place, key, manifestSha, signed, origin);
    const receiver = { place, folder: folderOf(key), origin, journal, signal };
    const all: Omit<Receiver, 'onBytes'> = { ...receiver, ...receiveDefaults, ...given(options) };
    try {
      return await complete(all, key, manifest, manifestSha, onProgress);
    } catch (cause) {
      if (await sweepCleared(place, key)) {
        throw new Failure('StorageCleared', `${key} was cleared while it came`, { cause });
      }
      if (failureName(cause) === 'Cancelled') await journal.write({ paused: true });
      throw cause;
    }
  });
  if (origin.source.kind === 'url') await removeOlder(place, origin.source.url, key, exclusive);
  return { key, manifestSha, fetched };
}

/** Puts manifest and journal in their place; a manifest that is there and right is left alone. */
async function open(
  place: Place,
  key: string,
  manifestSha: string,
  { bytes, signature }: SignedManifest,
  origin: Origin,
): Promise<Journal> {
  const known = await readModel(place, key);
  if (known?.manifestSha !== manifestSha) {
    await place.write(`${folderOf(key)}/${MANIFEST}`, bytes);
  }
  if (signature !== null) await place.write(`${folderOf(key)}/${SIGNATURE_FILE}`, signature);
  const journal = await Journal.begin(place, folderOf(key), origin.source);
  // A package from this site can be mended from it, also where its last files came from a stick.
  const keptUrl = known?.state?.source.kind === 'url' && origin.source.kind === 'folder';
  await journal.write(keptUrl && known.state !== null ? { source: known.state.source } : {});
  return journal;
}

async function complete(
  receiver: Omit<Receiver, 'onBytes'>,
  key: string,
  manifest: Manifest,
  manifestSha: string,
  onProgress: (progress: LoadProgress) => void,
): Promise<string[]> {
  const { place, folder, journal, origin } = receiver;
  const bytesTotal = manifest.files.reduce((sum, file) => sum + file.bytes, 0);
  const report = (phase: 'check' | 'download', bytesDone: number, file: string): void => {
    const network = phase === 'download' && origin.network;
    onProgress({ phase, bytesDone, bytesTotal, file, network });
  };
  await sweepFolder(place, key);
  const missing: FileInfo[] = [];
  let done = 0;
  for (const file of manifest.files) {
    if (receiver.signal.aborted) throw stopped();
    report('check', done, file.name);
    if ((await readVerified(place, folder, file)) === null) missing.push(file);
    else done += file.bytes;
  }
  const ready = `${folder}/${READY}`;
  if (missing.length > 0) {
    await place.remove(ready);
    let here = 0;
    for (const file of missing) here += await partOf(place, folder, journal, file);
    await withCounts(place, bytesTotal - done, () => place.reserve(bytesTotal - done - here));
  }
  for (const file of missing) {
    const before = done;
    report('download', before, file.name);
    const onBytes = (_: FileInfo, bytes: number) => report('download', before + bytes, file.name);
    await withCounts(place, bytesTotal - done, () => receiveFile({ ...receiver, onBytes }, file));
    done += file.bytes;
  }
  if (journal.state.part !== null || journal.state.paused) {
    await journal.write({ part: null, paused: false });
  }
  // What was verified before the storage was cleared is gone with it.
  for (const file of manifest.files) {
    if ((await place.size(`${folder}/${file.name}`)) !== file.bytes) {
      throw new Failure('StorageBroken', `${file.name} has gone again`);
    }
  }
  if (await isCleared(place, key)) throw new Failure('StorageCleared', `${key} was cleared`);
  await place.write(ready, new TextEncoder().encode(manifestSha));
  return missing.map(({ name }) => name);
}

/**
 * Whether the browser has cleared a package that is being brought here: its manifest, which is written
 * first, is gone. What storage itself says then is anything: that it is full, broken, or all is well.
 */
export async function isCleared(place: Place, key: string): Promise<boolean> {
  return (await place.size(`${folderOf(key)}/${MANIFEST}`)) === null;
}

/** Removes what came after the package was cleared; whether it was, as far as the storage can say. */
async function sweepCleared(place: Place, key: string): Promise<boolean> {
  try {
    if (!(await isCleared(place, key))) return false;
    await place.remove(folderOf(key));
    return true;
  } catch (error) {
    if (failureName(error) === 'Bug') throw error;
    return false; // it cannot be asked: the failure before this one says more
  }
}

/** The file as it lies here; null where it is missing or not what the manifest says. */
export async function readVerified(
  place: Place,
  folder: string,
  { name, bytes, sha256: sha }: FileInfo,
): Promise<Uint8Array<ArrayBuffer> | null> {
  const path = `${folder}/${name}`;
  if ((await place.size(path)) !== bytes) return null;
  const found = await place.read(path);
  return found !== null && (await sha256(found)) === sha ? found : null;
}

/** Says with StorageFull how many bytes are missing and how many the models here take. */
async function withCounts<T>(place: Place, needed: number, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (!(cause instanceof Failure) || cause.name !== 'StorageFull') throw cause;
    const used = await usedByAll(place);
    const what = `${needed} bytes more are needed, the models here take ${used}: ${cause.message}`;
    throw new Failure('StorageFull', what, { cause });
  }
}

/** Once an edition is whole, unfinished and older ones from the same address are of no use. */
async function removeOlder(
  place: Place,
  url: string,
  key: string,
  exclusive: Exclusive,
): Promise<void> {
  for (const { key: other, state } of await readModels(place)) {
    if (other !== key && isFrom(state, url)) {
      await exclusive(other, () => removeModel(place, other));
    }
  }
}

function given({ sleep, flushBytes }: ReceiveOptions): Partial<Required<ReceiveOptions>> {
  return { ...(sleep && { sleep }), ...(flushBytes !== undefined && { flushBytes }) };
}
