import { readdir } from 'node:fs/promises';
import { Failure, failureName } from '../src/failure.ts';
import { columnsOf, qPlaneBytes } from '../src/format/layout.ts';
import { GROUP_SIZE, type KnownAnswer, type Manifest } from '../src/format/manifest.ts';
import { Tokenizer } from '../src/text/tokenizer.ts';
import { answers } from './known-answer.ts';
import { blockReader, readListed, readManifest } from './reader.ts';

/** One thing that was looked at. */
export interface Finding {
  readonly ok: boolean;
  readonly what: string;
}

export interface VerifyOptions {
  /** Computes the known answers anew and compares them. */
  readonly recompute: boolean;
  readonly onProgress?: (phase: string, done: number, total: number) => void;
}

/** A repeated computation on the same bytes differs by the order of sums only, if at all. */
const RECOMPUTE_TOLERANCE = 1e-4;

/**
 * Checks a package as far as its bytes can tell. Everything that is wrong is found, not only the
 * first of it, but nothing after a manifest that cannot be read.
 * @throws Failure NotFound, BadManifest
 */
export async function verify(folder: string, options: VerifyOptions): Promise<readonly Finding[]> {
  const manifest = await readManifest(folder);
  const { files, tensors } = manifest;
  const findings = [
    good(`manifest: format ${manifest.format}, ${files.length} files, ${tensors.length} tensors`),
  ];
  let bytesOk = true;
  for (const [i, file] of files.entries()) {
    options.onProgress?.('files', i, files.length);
    const found = await attempt(async () =>
      checkBytes(manifest, file.name, await readListed(folder, file)),
    );
    bytesOk &&= found.every(({ ok }) => ok);
    findings.push(...found);
  }
  options.onProgress?.('files', files.length, files.length);
  findings.push(...(await strangers(folder, manifest)));
  if (manifest.knownAnswer === null) {
    findings.push(bad('known answers: none; give the checkpoint known_answer_prompts and convert'));
  } else {
    const tasks = Object.keys(manifest.knownAnswer.tasks);
    const missing = manifest.tasks.filter(({ id }) => !tasks.includes(id)).map(({ id }) => id);
    if (missing.length > 0) findings.push(bad(`known answers: none for ${missing.join(', ')}`));
    else findings.push(good(`known answers: ${tasks.join(', ')}`));
    if (options.recompute && bytesOk) {
      findings.push(await recompute(folder, manifest, manifest.knownAnswer, options));
    }
  }
  return findings;
}

/** What the bytes of one file say: the tokenizer parses, every stored number is finite. */
function checkBytes(manifest: Manifest, name: string, bytes: Uint8Array): Finding {
  if (name === 'tokenizer.json') {
    const { vocab } = Tokenizer.fromBytes(bytes);
    if (vocab <= manifest.config.vocab) return good(`${name}: ${vocab} pieces`);
    return bad(`${name}: ${vocab} pieces, the model has ${manifest.config.vocab}`);
  }
  for (const tensor of manifest.tensors) {
    for (const block of tensor.blocks) {
      if (block.file !== name) continue;
      const values = bytes.subarray(block.offset, block.offset + block.bytes);
      const broken = infinite(
        tensor.dtype,
        values,
        block.rows[1] - block.rows[0],
        columnsOf(tensor),
      );
      if (broken !== null) return bad(`${name}: tensor ${tensor.name}: ${broken}`);
    }
  }
  return good(`${name}: ${bytes.length} bytes, SHA-256, finite`);
}

/** Says which number of a block is not finite, or null. */
function infinite(
  dtype: Manifest['tensors'][number]['dtype'],
  block: Uint8Array,
  rows: number,
  columns: number,
): string | null {
  const plane = qPlaneBytes(dtype, rows, columns);
  const quantized = dtype === 'q4' || dtype === 'q8';
  const halves = quantized
    ? new Uint8Array(block.subarray(plane, plane + (rows * columns * 2) / GROUP_SIZE))
    : null;
  if (dtype === 'f32') {
    const at = new Float32Array(new Uint8Array(block.subarray(0, plane)).buffer).findIndex(
      (x) => !Number.isFinite(x),
    );
    return at === -1 ? null : `value ${at} is not finite`;
  }
  const bits = new Uint16Array((halves ?? new Uint8Array(block.subarray(0, plane))).buffer);
  const at = bits.findIndex((half) => (half & 0x7c00) === 0x7c00);
  return at === -1 ? null : `${quantized ? 'scale' : 'value'} ${at} is not finite`;
}

/** Files that look like parts of a package and are not listed. */
async function strangers(folder: string, { files }: Manifest): Promise<Finding[]> {
  const listed = new Set(files.map(({ name }) => name));
  const names = await readdir(folder);
  return names
    .filter((name) => name.endsWith('.bin') && !listed.has(name))
    .map((name) => bad(`${name}: not listed in the manifest; delete it`));
}

async function recompute(
  folder: string,
  manifest: Manifest,
  stored: KnownAnswer,
  { onProgress }: VerifyOptions,
): Promise<Finding> {
  const prompts = new Map(Object.entries(stored.tasks).map(([task, { tokens }]) => [task, tokens]));
  const { stopIds } = manifest.template;
  const fresh = await answers(manifest, blockReader(folder), prompts, stopIds, (done, total) =>
    onProgress?.('known answer', done, total),
  );
  let largest = 0;
  for (const [task, { top, greedy }] of Object.entries(stored.tasks)) {
    const other = fresh[task];
    if (other?.greedy.join() !== greedy.join()) {
      return bad(`known answers: ${task}: the greedy tail is ${other?.greedy.join(' ') ?? 'none'}`);
    }
    for (const [position, row] of top.entries()) {
      for (const [place, { id, logit }] of row.entries()) {
        const { id: otherId, logit: otherLogit } = other.top[position]?.[place] ?? {
          id: -1,
          logit: NaN,
        };
        const difference = Math.abs(otherLogit - logit);
        largest = Math.max(largest, difference);
        if (otherId === id && difference <= RECOMPUTE_TOLERANCE) continue;
        const where = `${task}, position ${position}, place ${place}`;
        return bad(
          `known answers: ${where}: token ${otherId} with ${otherLogit}, not ${id} with ${logit}`,
        );
      }
    }
  }
  return good(`known answers: computed again, largest difference ${largest}`);
}

/** A failure of a check is a finding like others. */
async function attempt(run: () => Promise<Finding>): Promise<Finding[]> {
  try {
    return [await run()];
  } catch (error) {
    if (failureName(error) === 'Bug' || !(error instanceof Failure)) throw error;
    return [bad(error.message)];
  }
}

function good(what: string): Finding {
  return { ok: true, what };
}

function bad(what: string): Finding {
  return { ok: false, what };
}
