/** Makes a folder for a USB stick: npm run release -- --out DIR */
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { failureName } from '../failure.ts';
import { release } from './release.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const { out } = new Command()
  .name('npm run release --')
  .description('Writes the built app, its model, a server in one file and a guide into a folder.')
  .option('--out <folder>', 'a new or empty folder', join(root, 'release'))
  .parse()
  .opts<{ out: string }>();

try {
  const { files, bytes } = await release({
    dist: join(root, 'dist'),
    pictures: join(root, 'docs/screenshots'),
    out,
  });
  process.stdout.write(`${out}: ${files} files, ${(bytes / 1e6).toFixed(1)} MB\n`);
} catch (error) {
  if (failureName(error) === 'Bug') throw error;
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
