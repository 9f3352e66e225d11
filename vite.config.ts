import { readFile } from 'node:fs/promises';
import process from 'node:process';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import type { Plugin } from 'vite';
import { defaultClientConditions } from 'vite';
import { defineConfig } from 'vitest/config';
import { plant, plantedBugs } from './src/gpu/planted-bugs.ts';

/** Storage in the browser is tied to the port, so it never changes. */
const port = 4820;

/** While developing, Vite puts styles into the page itself; the built page needs no such thing. */
const inlineStylesInDev: Plugin = {
  name: 'inline-styles-in-dev',
  apply: 'serve',
  transformIndexHtml: (html) =>
    html.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'"),
};

/** PLANTED_BUG=n, set by .ci/planted-bugs.mjs for test runs: a shader with a bug in it. */
const plantedBug: Plugin = {
  name: 'planted-bug',
  enforce: 'pre',
  async load(id) {
    const bug = plantedBugs[Number(process.env['PLANTED_BUG'] || NaN)];
    const [path = ''] = id.split('?');
    if (bug === undefined || !path.endsWith(`/shaders/${bug.kernel}.wgsl`)) return null;
    return `export default ${JSON.stringify(plant(bug, await readFile(path, 'utf8')))}`;
  },
};

/** A cross-origin isolated page may have threads, which the CPU backend uses. */
const headers = {
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
};

/** Many servers do not know that .mjs is JavaScript, and browsers refuse a module of another type. */
const rolldownOptions = {
  output: {
    assetFileNames: ({ names }: { names: readonly string[] }) =>
      names.some((name) => name.endsWith('.mjs'))
        ? 'assets/[name]-[hash].js'
        : 'assets/[name]-[hash][extname]',
  },
};

export default defineConfig({
  base: './',
  // ONNX Runtime's files by their addresses, instead of a build that carries one of them inside.
  resolve: { conditions: ['onnxruntime-web-use-extern-wasm', ...defaultClientConditions] },
  plugins: [svelte(), inlineStylesInDev, ...(process.env['VITEST'] ? [plantedBug] : [])],
  worker: { format: 'es', rolldownOptions },
  build: { target: 'es2023', chunkSizeWarningLimit: 300, rolldownOptions },
  server: { port, strictPort: true, headers },
  preview: { port, strictPort: true, headers },
  test: {
    include: ['src/**/*.test.ts', 'convert/**/*.test.ts'],
    testTimeout: 60_000,
    env: { NO_COLOR: '1' }, // what command lines print is compared as plain text
    // A GPU driver in software uses every core by itself: test files run two at a time.
    maxWorkers: 2,
  },
});
