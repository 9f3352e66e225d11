import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { readManifest } from '../../convert/reader.ts';
import { FORTY_MILLION, randomCheckpoint } from './random-checkpoint.ts';

/** A package that the app can talk with, of 40 million random weights, made by the converter. */

const converter = fileURLToPath(new URL('../../convert/main.ts', import.meta.url));
const shipped = fileURLToPath(new URL('../../public/models/nano', import.meta.url));

/**
 * Makes it, with the tasks and the template of the shipped model, or takes the one that is there.
 * @returns the folder; its name is that of the shipped package, in whose place it can be served
 * @throws Error with what the converter said, where it fails
 */
export async function randomAppPackage(cache: string, seed: number): Promise<string> {
  const out = join(cache, `packages-${FORTY_MILLION.name}-seed-${seed}`, 'nano');
  if (await isWhole(out)) return out;
  const { tasks, template } = await readManifest(shipped);
  const about = {
    tasks,
    template,
    known_answer_prompts: Object.fromEntries(tasks.map(({ id }) => [id, '发烧'])),
  };
  const { folder } = await randomCheckpoint(cache, FORTY_MILLION, seed, about);
  const child = spawn(process.execPath, ['--import', 'tsx', converter, folder, '--out', out], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) throw new Error(`convert ended with ${code}: ${said.slice(-2000)}`);
  return out;
}

/** Manifests are written last. */
async function isWhole(folder: string): Promise<boolean> {
  return readFile(join(folder, 'manifest.json')).then(
    () => true,
    () => false,
  );
}
