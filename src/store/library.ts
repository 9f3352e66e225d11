import { failureName } from '../failure.ts';
import { sha256 } from '../format/hash.ts';
import { parseManifest } from '../format/layout.ts';
import { MAX_MANIFEST_BYTES, type Manifest } from '../format/manifest.ts';
import { SIGNATURE_FILE } from '../format/signature.ts';
import { isJournal, Journal, type InstallState } from './journal.ts';
import type { Origin } from './origin.ts';
import type { Place } from './place.ts';

/**
 * Model packages that outlive the page:
 *
 *   models/ID@SHA/manifest.json   the exact bytes that came; SHA are 16 digits of their SHA-256
 *   models/ID@SHA/manifest.sig    its signature, where this build of the app asks for one (signed.ts)
 *   models/ID@SHA/state.0, .1     where it comes from and how far it is (journal.ts)
 *   models/ID@SHA/shard-00000.bin ...
 *   models/ID@SHA/READY           the manifest's SHA-256, written after every file is verified
 *
 * Only what READY vouches for is used, and even then each file is hashed again whenever it is read.
 */

export const MODELS = 'models';
export const MANIFEST = 'manifest.json';
export const READY = 'READY';

/** What a package's folder is called: its key. */
const KEY = /^[a-z0-9][a-z0-9._-]{0,63}@[0-9a-f]{16}$/;

export const isKey = (name: string): boolean => KEY.test(name);
export const keyOf = (id: string, manifestSha: string): string =>
  `${id}@${manifestSha.slice(0, 16)}`;
export const folderOf = (key: string): string => `${MODELS}/${key}`;

/** A package that is here, whole or in part. */
export interface StoredModel {
  readonly key: string;
  readonly manifest: Manifest;
  readonly manifestBytes: Uint8Array<ArrayBuffer>;
  readonly manifestSha: string;
  /** Every file was verified. */
  readonly ready: boolean;
  /** Null in a folder whose journal is lost. */
  readonly state: InstallState | null;
}

/** Reads one package's folder; null where its manifest is missing, damaged, or not readable here. */
export async function readModel(place: Place, key: string): Promise<StoredModel | null> {
  const folder = folderOf(key);
  const size = await place.size(`${folder}/${MANIFEST}`);
  if (!isKey(key) || size === null || size > MAX_MANIFEST_BYTES) return null;
  const bytes = await place.read(`${folder}/${MANIFEST}`);
  if (bytes === null) return null;
  const sha = await sha256(bytes);
  const manifest = readManifest(bytes);
  if (manifest === null || keyOf(manifest.id, sha) !== key) return null;
  const ready = await place.read(`${folder}/${READY}`);
  const journal = await Journal.read(place, folder);
  return {
    key,
    manifest,
    manifestBytes: bytes,
    manifestSha: sha,
    ready: ready !== null && new TextDecoder().decode(ready) === sha,
    state: journal?.state ?? null,
  };
}

/** Every package that is here, whole or in part. */
export async function readModels(place: Place): Promise<StoredModel[]> {
  const found: StoredModel[] = [];
  for (const key of await place.list(MODELS)) {
    const model = isKey(key) ? await readModel(place, key) : null;
    if (model !== null) found.push(model);
  }
  return found;
}

/** The whole package that came from `url`; null where there is none. */
export async function findReady(place: Place, url: string): Promise<StoredModel | null> {
  const models = await readModels(place);
  return models.find(({ ready, state }) => ready && isFrom(state, url)) ?? null;
}

export function isFrom(state: InstallState | null, url: string): boolean {
  return state?.source.kind === 'url' && state.source.url === url;
}

/** Bytes that a package takes here: the sum of its files, for the browser's own figures are off. */
export async function usedBytes(place: Place, key: string): Promise<number> {
  const folder = folderOf(key);
  let sum = 0;
  for (const name of await place.list(folder)) sum += (await place.size(`${folder}/${name}`)) ?? 0;
  return sum;
}

/** Bytes of all packages here. */
export async function usedByAll(place: Place): Promise<number> {
  let sum = 0;
  for (const key of await place.list(MODELS)) if (isKey(key)) sum += await usedBytes(place, key);
  return sum;
}

/** A package that an origin offers and that is not here; null where it does not answer so now. */
export async function bundledModel(origin: Origin): Promise<StoredModel | null> {
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = await origin.manifest(new AbortController().signal);
  } catch (error) {
    if (failureName(error) === 'Bug') throw error;
    return null; // no network, or no such package: there is nothing to offer
  }
  const manifest = readManifest(bytes);
  if (manifest === null) return null;
  const sha = await sha256(bytes);
  const state = { source: origin.source, paused: false, part: null };
  const key = keyOf(manifest.id, sha);
  return { key, manifest, manifestBytes: bytes, manifestSha: sha, ready: false, state };
}

/** Runs work while nobody else touches a package; says false where somebody does already. */
export type WhileFree = (key: string, work: () => Promise<void>) => Promise<boolean>;

/**
 * Removes what nobody can use: names that are no package's, hidden copies of writes that died
 * (`*.crswap`), files that a manifest does not list, folders with neither manifest nor journal. What
 * is paused or under way stays.
 */
export async function sweep(place: Place, whileFree: WhileFree): Promise<void> {
  for (const name of await place.list(MODELS)) {
    if (isKey(name)) await whileFree(name, () => sweepFolder(place, name));
    else await place.remove(`${MODELS}/${name}`);
  }
}

/** The same for one package's folder. */
export async function sweepFolder(place: Place, key: string): Promise<void> {
  const folder = folderOf(key);
  const model = await readModel(place, key);
  if (model === null && (await Journal.read(place, folder)) === null) {
    await place.remove(folder);
    return;
  }
  const listed = new Set(model?.manifest.files.map(({ name }) => name));
  for (const name of await place.list(folder)) {
    const own = [MANIFEST, READY, SIGNATURE_FILE].includes(name) || isJournal(name);
    // Without its manifest nobody can say which files are its own; they may yet be used.
    const known = own || (model === null ? !name.endsWith('.crswap') : listed.has(name));
    if (!known) await place.remove(`${folder}/${name}`);
  }
}

/** Removes a package. READY goes first: what is left of a removal that dies is no package. */
export async function removeModel(place: Place, key: string): Promise<void> {
  await place.remove(`${folderOf(key)}/${READY}`);
  await place.remove(folderOf(key));
}

/** Null for a manifest that this edition of the app does not read. */
function readManifest(bytes: Uint8Array): Manifest | null {
  try {
    return parseManifest(bytes);
  } catch (error) {
    if (failureName(error) === 'BadManifest') return null;
    throw error;
  }
}
