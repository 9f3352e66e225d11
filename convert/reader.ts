import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '../src/failure.ts';
import { sha256 } from '../src/format/hash.ts';
import { parseManifest } from '../src/format/layout.ts';
import {
  MAX_MANIFEST_BYTES,
  type FileInfo,
  type Manifest,
  type TensorBlock,
} from '../src/format/manifest.ts';
import { openFile, readAt, readWhole } from './files.ts';

/** Reads the manifest of a package folder. @throws Failure NotFound, BadManifest */
export async function readManifest(folder: string): Promise<Manifest> {
  const hint = 'this is no package, or one whose conversion did not end';
  const file = await openFile(folder, 'manifest.json', hint);
  try {
    const { size } = await file.stat();
    // One byte more than is allowed is enough to be refused.
    return parseManifest(await readAt(file, 0, Math.min(size, MAX_MANIFEST_BYTES + 1)));
  } finally {
    await file.close();
  }
}

/** A listed file, checked. @throws Failure NotFound, ShardTruncated, ShardCorrupt */
export async function readListed(folder: string, file: FileInfo): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = await readWhole(folder, file.name, 'copy the package again');
  const path = join(folder, file.name);
  if (bytes.length !== file.bytes) {
    const what = `${bytes.length} bytes, the manifest says ${file.bytes}; copy the package again`;
    throw new Failure('ShardTruncated', `${path}: ${what}`);
  }
  if ((await sha256(bytes)) !== file.sha256) {
    throw new Failure('ShardCorrupt', `${path}: another SHA-256; copy the package again`);
  }
  return bytes;
}

/** Reads blocks where they lie in a folder; no file is held in memory. */
export function blockReader(folder: string): (block: TensorBlock) => Promise<Uint8Array> {
  return async ({ file, offset, bytes }) => {
    const handle = await open(join(folder, file), 'r');
    try {
      return await readAt(handle, offset, bytes);
    } finally {
      await handle.close();
    }
  };
}
