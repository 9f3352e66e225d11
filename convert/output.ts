import { mkdir, readdir, realpath, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { Failure } from '../src/failure.ts';
import { errorCode } from './files.ts';

/** What a package itself consists of. Other files beside it (a model card) outlive a replacement. */
const OWN =
  /^(manifest\.json|manifest\.sig|tokenizer\.json|model\.onnx|(shard|adapter)-\d{5}\.bin)$/;

/**
 * Lets `write` fill a folder beside `out`, then puts it in the place of `out`. Whatever happens in
 * between, a package that was there stays whole, and a partial one never carries the name.
 * @throws Failure Usage where `out` is something else than a package; whatever `write` throws
 */
export async function replaceFolder(
  out: string,
  write: (partial: string) => Promise<void>,
): Promise<void> {
  const target = await checkTarget(resolve(out));
  const partial = `${target}.partial-${process.pid}`;
  try {
    await mkdir(dirname(target), { recursive: true });
    await rm(partial, { recursive: true, force: true });
    await mkdir(partial);
    await write(partial);
    await swap(partial, target);
  } finally {
    await rm(partial, { recursive: true, force: true });
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
