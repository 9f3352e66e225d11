import { md5 } from '@noble/hashes/legacy.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import { sha256 } from '../format/hash.ts';
import type { PeerCheck, PeerFile, PeerFolder, PeerProblem, PeerProblemKind } from './api.ts';
import { CONFIG, MANIFESTS, most, readConfig, readManifest, type Shard } from './formats.ts';
import { readLibrary } from './library.ts';

/** What of a GPU is asked. */
export interface GpuFacts {
  readonly features: { has(name: string): boolean };
  readonly limits: Readonly<Record<keyof typeof leastLimits, number>>;
}

/** What web-llm 0.2.86 asks of every device, whatever the model (detectGPUDevice). */
const leastLimits = {
  maxBufferSize: 1 << 28,
  maxStorageBufferBindingSize: 1 << 27,
  maxComputeWorkgroupStorageSize: 32 << 10,
  maxStorageBuffersPerShaderStage: 10,
} as const;

/** A file's name as a manifest may write it: no path, nothing that means anything in an address. */
const PLAIN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$/;
/** The runtime reads one of these, the first that there is. */
const TOKENIZERS = ['tokenizer.json', 'tokenizer.model'];

/** Ends a check where it stands; never leaves this file. */
class Stop extends Error {
  readonly problem: PeerProblem;

  constructor(kind: PeerProblemKind, file = '', detail = '') {
    super(kind);
    this.problem = { kind, file, detail };
  }
}

/**
 * Looks at everything in a folder that can be looked at before it runs: names, the two documents,
 * sizes, MD5 sums, the library, and last what this device has for it.
 * @param gpu null where the browser gives none
 * @param onProgress told which part of the weights was read, between 0 and 1
 */
export async function checkFolder(
  folder: PeerFolder,
  gpu: GpuFacts | null,
  onProgress: (part: number) => void = () => undefined,
): Promise<PeerCheck> {
  try {
    return { problem: null, model: await look(folder, gpu, onProgress) };
  } catch (error) {
    if (error instanceof Stop) return { problem: error.problem, model: null };
    // The file changed on its disk, the stick was pulled out, the permission is gone.
    if (!(error instanceof DOMException)) throw error;
    return { problem: { kind: 'unreadable', file: '', detail: error.name }, model: null };
  }
}

async function look(folder: PeerFolder, gpu: GpuFacts | null, onProgress: (part: number) => void) {
  const files = new Map<string, File>();
  for (const { name, file } of folder.files) {
    if (files.has(name)) throw new Stop('twice', name);
    files.set(name, file);
  }
  const config = readConfig(await textOf(files, CONFIG, most.configBytes));
  if ('wrong' in config) throw new Stop('config', CONFIG, config.wrong);
  const tokenizer = TOKENIZERS.find((name) => config.value.tokenizer_files.includes(name));
  if (tokenizer === undefined) {
    throw new Stop('config', CONFIG, `tokenizer_files: ${config.value.tokenizer_files.join(', ')}`);
  }
  sized(files, tokenizer, most.tokenizerBytes);

  const [newName] = MANIFESTS;
  const manifestName = MANIFESTS.find((name) => files.has(name)) ?? newName;
  const manifest = await bytesOf(files, manifestName, most.manifestBytes);
  const shards = readManifest(decode(manifest, manifestName));
  if ('wrong' in shards) throw new Stop('manifest', manifestName, shards.wrong);
  const tensors = checkNames(shards.value, manifestName);
  const libraryName = onlyLibrary(files);
  const bytes = checkSizes(shards.value, files);
  const library = await bytesOf(files, libraryName, most.libraryBytes);
  const facts = await readLibrary(library);
  if ('kind' in facts) throw new Stop(facts.kind, libraryName, facts.detail);
  await checkSums(shards.value, files, bytes, onProgress);
  checkGpu(gpu, facts.needsF16);

  const used = [
    CONFIG,
    tokenizer,
    manifestName,
    libraryName,
    ...shards.value.map((s) => s.dataPath),
  ];
  return {
    name: folder.name === '' ? libraryName.replace(/\.wasm$/, '') : folder.name,
    bytes,
    tensors,
    contextTokens: config.value.context_window_size,
    library: { name: libraryName, bytes: library.length, sha256: await sha256(library) },
    manifest: { name: manifestName, sha256: await sha256(manifest) },
    hasChecksums: shards.value.every(({ md5sum }) => md5sum !== undefined),
    needsF16: facts.needsF16,
    files: used.map((name): PeerFile => ({ name, file: sized(files, name, Infinity) })),
  };
}

/** Every name a plain one, and once; gives the number of tensors. */
function checkNames(shards: readonly Shard[], manifest: string): number {
  const paths = new Set<string>([CONFIG, ...MANIFESTS, ...TOKENIZERS]);
  const tensors = new Set<string>();
  for (const { dataPath, records } of shards) {
    if (!PLAIN.test(dataPath)) throw new Stop('bad-name', manifest, dataPath.slice(0, 100));
    if (paths.has(dataPath)) throw new Stop('twice', manifest, dataPath);
    paths.add(dataPath);
    for (const { name } of records) {
      if (tensors.has(name)) throw new Stop('twice', manifest, name.slice(0, 100));
      tensors.add(name);
    }
  }
  return tensors.size;
}

function onlyLibrary(files: ReadonlyMap<string, File>): string {
  const libraries = [...files.keys()].filter((name) => name.endsWith('.wasm'));
  const [first] = libraries;
  if (first === undefined) throw new Stop('no-library');
  if (libraries.length > 1) throw new Stop('several-libraries', '', libraries.join(', '));
  return first;
}

/** Every shard there, with as many bytes as the manifest says; gives their sum. */
function checkSizes(shards: readonly Shard[], files: ReadonlyMap<string, File>): number {
  let total = 0;
  for (const { dataPath, nbytes } of shards) {
    if (nbytes > most.shardBytes) throw new Stop('too-large', dataPath, String(nbytes));
    total += nbytes;
    if (total > most.totalBytes) throw new Stop('too-large', dataPath, String(total));
    const { size } = sized(files, dataPath, Infinity);
    if (size !== nbytes) throw new Stop('size', dataPath, `${size} ≠ ${nbytes}`);
  }
  return total;
}

/** The runtime never looks at the sums that the manifest brings along: they are looked at here. */
async function checkSums(
  shards: readonly Shard[],
  files: ReadonlyMap<string, File>,
  total: number,
  onProgress: (part: number) => void,
): Promise<void> {
  let done = 0;
  for (const { dataPath, md5sum } of shards) {
    if (md5sum === undefined) continue;
    const sum = md5.create();
    const reader = sized(files, dataPath, Infinity).stream().getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      sum.update(part.value);
      done += part.value.length;
      onProgress(done / total);
    }
    if (bytesToHex(sum.digest()) !== md5sum.toLowerCase())
      throw new Stop('checksum', dataPath, md5sum);
  }
}

/** @throws Stop where this device cannot run the library */
function checkGpu(gpu: GpuFacts | null, needsF16: boolean): void {
  if (gpu === null) throw new Stop('no-webgpu');
  if (needsF16 && !gpu.features.has('shader-f16')) throw new Stop('needs-f16');
  for (const [name, least] of Object.entries(leastLimits)) {
    const has = gpu.limits[name as keyof typeof leastLimits];
    if (has < least) throw new Stop('gpu-too-small', '', `${name} ${has} < ${least}`);
  }
}

function sized(files: ReadonlyMap<string, File>, name: string, mostBytes: number): File {
  const file = files.get(name);
  if (file === undefined) throw new Stop('missing', name);
  if (file.size > mostBytes) throw new Stop('too-large', name, String(file.size));
  return file;
}

async function bytesOf(
  files: ReadonlyMap<string, File>,
  name: string,
  mostBytes: number,
): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await sized(files, name, mostBytes).arrayBuffer());
}

async function textOf(
  files: ReadonlyMap<string, File>,
  name: string,
  mostBytes: number,
): Promise<string> {
  return decode(await bytesOf(files, name, mostBytes), name);
}

function decode(bytes: Uint8Array, name: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new Stop(name === CONFIG ? 'config' : 'manifest', name, 'UTF-8');
  }
}
