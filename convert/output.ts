import { mkdir, readdir, readFile, realpath, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { Failure, failureName } from '../src/failure.ts';
import { errorCode, exists } from './files.ts';
import { ProgressLog } from './progress-log.ts';

/** What a package itself consists of. Other files beside it (a model card) outlive a replacement. */
const OWN =
  /^(manifest\.json|manifest\.sig|tokenizer\.json|model\.onnx|known-answer\.partial|(shard|adapter)-\d{5}\.bin)$/;

/** What only a conversion that has not ended needs; never part of a package. */
export const PROGRESS_FILE = 'progress.jsonl';
const LOCK_FILE = 'lock';

/**
 * Lets `write` fill a folder beside `out`, `OUT.partial`, then puts it in the place of `out`.
 * Whatever happens in between, a package that was there stays whole, and a partial one never
 * carries the name. A process that was killed leaves its folder behind, and so does one that was
 * interrupted: the next one with the same key goes on with it.
 * @param key names the conversion, to the byte of what it will write; null never goes on
 * @param write gets the log of files that are whole
 * @throws Failure Usage where `out` is something else than a package or is being written by
 *   another process; whatever `write` throws
 */
export async function replaceFolder(
  out: string,
  key: string | null,
  write: (partial: string, log: ProgressLog) => Promise<void>,
): Promise<void> {
  const target = await checkTarget(resolve(out));
  const partial = `${target}.partial`;
  await mkdir(partial, { recursive: true });
  await lock(partial);
  const progress = join(partial, PROGRESS_FILE);
  let keep = false;
  try {
    const log =
      (key === null ? null : await ProgressLog.open(progress, key)) ??
      (await beginAnew(partial, key ?? ''));
    await write(partial, log);
    for (const name of [PROGRESS_FILE, LOCK_FILE]) await rm(join(partial, name), { force: true });
    await swap(partial, target);
  } catch (error) {
    keep = key !== null && failureName(error) === 'Cancelled';
    throw error;
  } finally {
    if (keep) await rm(join(partial, LOCK_FILE), { force: true });
    else await rm(partial, { recursive: true, force: true });
  }
}

async function beginAnew(partial: string, key: string): Promise<ProgressLog> {
  for (const name of await readdir(partial)) {
    if (name !== LOCK_FILE) await rm(join(partial, name), { recursive: true });
  }
  return ProgressLog.create(join(partial, PROGRESS_FILE), key);
}

/** Lets one process at a time write; the lock of one that is gone is taken over. */
async function lock(partial: string): Promise<void> {
  const path = join(partial, LOCK_FILE);
  const pid = (await exists(partial, LOCK_FILE)) ? Number(await readFile(path, 'utf8')) : NaN;
  if (pid !== process.pid && isAlive(pid)) {
    const what = `process ${pid} is writing it; wait for it, or delete this folder if that is none`;
    throw new Failure('Usage', `${partial}: ${what}`);
  }
  await writeFile(path, String(process.pid));
}

function isAlive(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0); // asks only
    return true;
  } catch (error) {
    return errorCode(error) === 'EPERM';
  }
}

/** The folder to replace, links followed. */
async function checkTarget(target: string): Promise<string> {
  let names: string[];
  try {
    names = await readdir(target);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return target;
    if (errorCode(error) === 'ENOTDIR') throw new Failure('Usage', `${target}: not a folder`);
    throw error;
  }
  if (names.length > 0 && !names.includes('manifest.json')) {
    const what = 'holds files, but no package (no manifest.json); name a new or an empty folder';
    throw new Failure('Usage', `${target}: ${what}`);
  }
  return realpath(target);
}

async function swap(partial: string, target: string): Promise<void> {
  const old = join(dirname(target), `${basename(target)}.old-${process.pid}`);
  const replaced = await renameIfThere(target, old);
  try {
    await rename(partial, target);
  } catch (error) {
    if (replaced) await rename(old, target);
    throw error;
  }
  if (!replaced) return;
  for (const name of await readdir(old)) {
    if (!OWN.test(name)) await rename(join(old, name), join(target, name));
  }
  await rm(old, { recursive: true });
}

async function renameIfThere(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return false;
    throw error;
  }
}
