import { createHash } from 'node:crypto';
import { cp, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Failure } from '../failure.ts';
import { securityHeaders } from '../offline/headers.ts';

/** A folder for a USB stick: the app with its model, a server for this computer only, a guide. */

const stick = fileURLToPath(new URL('./stick/', import.meta.url));

/** What a browser insists on: scripts and WebAssembly of another type are refused. */
const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.webmanifest': 'application/manifest+json',
  '.wasm': 'application/wasm',
};

export interface ReleaseParts {
  /** The built app. */
  readonly dist: string;
  /** Pictures that the guide shows. */
  readonly pictures: string;
  readonly out: string;
}

/**
 * Writes the folder.
 * @returns how many files, and bytes of them
 * @throws Failure Usage where the app is not built, or the folder has something in it
 */
export async function release(parts: ReleaseParts): Promise<{ files: number; bytes: number }> {
  const { dist, pictures, out } = parts;
  if (!(await isFile(join(dist, 'models/nano/manifest.json')))) {
    throw new Failure('Usage', `${dist} holds no app with a model: run \`npm run build\` first`);
  }
  await mkdir(out, { recursive: true });
  if ((await readdir(out)).length > 0) {
    throw new Failure('Usage', `${out} is not empty: name a new folder, or empty it`);
  }
  await cp(dist, join(out, 'app'), { recursive: true });
  await mkdir(join(out, 'pictures'));
  for (const name of await picturesOf(join(stick, 'guide.html'))) {
    await cp(join(pictures, name), join(out, 'pictures', name));
  }
  await cp(join(stick, 'guide.html'), join(out, '使用指南.html'));
  for (const name of ['serve.py', 'start-linux.sh', 'start-windows.cmd']) {
    await writeFile(join(out, name), serverText(name, await readFile(join(stick, name), 'utf8')));
  }
  return sums(out);
}

/** The server with our headers in it. A Windows command file has Windows' ends of line. */
function serverText(name: string, text: string): string {
  const filled = text
    .replace('%HEADERS%', JSON.stringify(securityHeaders))
    .replace('%TYPES%', JSON.stringify(types));
  return name.endsWith('.cmd') ? filled.replaceAll('\n', '\r\n') : filled;
}

async function picturesOf(guide: string): Promise<string[]> {
  const text = await readFile(guide, 'utf8');
  return [...text.matchAll(/src="pictures\/([^"]+)"/g)].map(([, name = '']) => name);
}

/** SHA256SUMS over every file, in the form that `sha256sum -c` reads. */
async function sums(out: string): Promise<{ files: number; bytes: number }> {
  const entries = await readdir(out, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .toSorted();
  const lines: string[] = [];
  let bytes = 0;
  for (const path of paths) {
    const content = await readFile(path);
    bytes += content.length;
    const hash = createHash('sha256').update(content).digest('hex');
    lines.push(`${hash}  ${relative(out, path).split(sep).join('/')}\n`);
  }
  await writeFile(join(out, 'SHA256SUMS'), lines.join(''));
  return { files: paths.length, bytes };
}

const isFile = async (path: string): Promise<boolean> =>
  (await stat(path).catch(() => null))?.isFile() === true;
