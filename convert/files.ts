import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readFile, type FileHandle } from 'node:fs/promises';
import { basename, join } from 'node:path';
import * as v from 'valibot';
import { Failure, type FailureName } from '../src/failure.ts';

/** Reading what a person hands over: every failure says which file, what is wrong and what to do. */

/** @throws Failure NotFound that says what the file is for */
export async function openFile(folder: string, name: string, hint: string): Promise<FileHandle> {
  try {
    return await open(join(folder, name), 'r');
  } catch (error) {
    throw missing(error, join(folder, name), hint);
  }
}

/** @throws Failure NotFound that says what the file is for */
export async function readWhole(
  folder: string,
  name: string,
  hint: string,
): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return new Uint8Array(await readFile(join(folder, name)));
  } catch (error) {
    throw missing(error, join(folder, name), hint);
  }
}

/** True where the file is there. Other troubles are left to the reading of it. */
export async function exists(folder: string, name: string): Promise<boolean> {
  try {
    await (await open(join(folder, name), 'r')).close();
    return true;
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errorCode(error) ?? '')) return false;
    throw error;
  }
}

/** Reads and parses a JSON file. @throws Failure NotFound, BadCheckpoint */
export async function readJson(folder: string, name: string, hint: string): Promise<unknown> {
  const bytes = await readWhole(folder, name, hint);
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new Failure('BadCheckpoint', `${join(folder, name)}: not UTF-8 JSON`, { cause });
  }
}

/** Checks JSON from outside. @throws Failure BadCheckpoint with the file and the field's path */
export function check<T>(schema: v.GenericSchema<unknown, T>, json: unknown, path: string): T {
  const result = v.safeParse(schema, json);
  if (result.success) return result.output;
  const issue = result.issues[0];
  throw new Failure('BadCheckpoint', `${path}: ${v.getDotPath(issue) ?? 'file'}: ${issue.message}`);
}

/** Exactly `length` bytes of a file from `offset` on. */
export async function readAt(
  file: FileHandle,
  offset: number,
  length: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  await readInto(file, offset, bytes);
  return bytes;
}

/** Fills `target` with the bytes of a file from `offset` on. @throws Failure ShardTruncated */
export async function readInto(
  file: FileHandle,
  offset: number,
  target: Uint8Array,
): Promise<void> {
  for (let done = 0; done < target.length;) {
    const { bytesRead } = await file.read(target, done, target.length - done, offset + done);
    if (bytesRead === 0) throw new Failure('ShardTruncated', `file ends at byte ${offset + done}`);
    done += bytesRead;
  }
}

/** Larger pieces of a file: each costs a way through the event loop. */
const HASHED_AT_ONCE = 1 << 20;

/** SHA-256 over the names and digests of files, for files of any size. */
export async function digestFiles(
  folder: string,
  names: readonly string[],
  signal?: AbortSignal,
): Promise<string> {
  const whole = createHash('sha256');
  for (const name of [...names].sort()) {
    const hash = createHash('sha256');
    for await (const piece of createReadStream(join(folder, name), {
      highWaterMark: HASHED_AT_ONCE,
    })) {
      hash.update(piece as Uint8Array);
      stopIfAborted(signal);
    }
    whole.update(`${hash.digest('hex')}  ${basename(name)}\n`);
  }
  return whole.digest('hex');
}

/** @throws Failure Cancelled after the person has interrupted */
export function stopIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new Failure('Cancelled', 'stopped before the end');
}

/** What to throw for an error of writing a file: a full disk is no bug. */
export function diskFailure(error: unknown, path: string): unknown {
  const reasons: Readonly<Record<string, string>> = {
    ENOSPC: 'the disk is full; make room (`convert estimate` says how much) and start again',
    EDQUOT: 'the quota of this disk is used up',
    EFBIG: 'larger than this disk or account allows',
    EROFS: 'the disk is read-only',
    EACCES: 'no permission to write',
    EPERM: 'no permission to write',
  };
  const reason = reasons[errorCode(error) ?? ''];
  if (reason === undefined) return error;
  return new Failure('StorageFull', `${path}: ${reason}`, { cause: error });
}

/** The code of a Node system error, or null. */
export function errorCode(error: unknown): string | null {
  if (!(error instanceof Error) || !('code' in error)) return null;
  return typeof error.code === 'string' ? error.code : null;
}

function missing(error: unknown, path: string, hint: string): unknown {
  const reasons: Readonly<Record<string, [FailureName, string]>> = {
    ENOENT: ['NotFound', 'no such file'],
    ENOTDIR: ['NotFound', 'no such folder'],
    EISDIR: ['BadCheckpoint', 'a folder where a file is needed'],
    EACCES: ['NotFound', 'no permission to read it'],
  };
  const [name, reason] = reasons[errorCode(error) ?? ''] ?? [];
  if (name === undefined || reason === undefined) return error;
  return new Failure(name, `${path}: ${reason}; ${hint}`, { cause: error });
}
