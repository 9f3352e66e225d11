/**
 * Lets Node import `#shaders/NAME.wgsl?raw` as Vite does: the file's text as the default export.
 * Used as `tsx --import ./src/node/wgsl-loader.mjs`.
 */
import { readFile } from 'node:fs/promises';
import { register } from 'node:module';

if (import.meta.url.includes('?hooks') === false) register(`${import.meta.url}?hooks`);

export async function load(url, context, nextLoad) {
  if (!url.endsWith('.wgsl?raw')) return nextLoad(url, context);
  const text = await readFile(new URL(url), 'utf8');
  return {
    format: 'module',
    shortCircuit: true,
    source: `export default ${JSON.stringify(text)};`,
  };
}
