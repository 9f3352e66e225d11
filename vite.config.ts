import { readdir, readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import process from 'node:process';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import type { Plugin } from 'vite';
import { VitePWA } from 'vite-plugin-pwa';
import { defaultClientConditions } from 'vite';
import { defineConfig } from 'vitest/config';
import { plant, plantedBugs } from './src/gpu/planted-bugs.ts';
import {
  developmentPolicy,
  isolationHeaders,
  metaPolicy,
  securityHeaders,
} from './src/offline/headers.ts';

/** Storage in the browser is tied to the port, so it never changes. */
const port = 4820;

/** The policy stands in one place: the page's meta element is written from there. */
const pagePolicy = (command: 'build' | 'serve'): Plugin => ({
  name: `page-policy-${command}`,
  apply: command,
  transformIndexHtml: (html) =>
    html.replace('%POLICY%', command === 'build' ? metaPolicy : developmentPolicy),
});

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

/** Shaders ship without comments and indentation. Their lines stay, since compiler messages name them. */
const bareShaders = (): Plugin => ({
  name: 'bare-shaders',
  apply: 'build',
  enforce: 'pre',
  async load(id) {
    const [path = '', query] = id.split('?');
    if (!path.endsWith('.wgsl') || query !== 'raw') return null;
    const text = await readFile(path, 'utf8');
    return `export default ${JSON.stringify(text.replace(/^ +| *\/\/.*$/gm, ''))}`;
  },
});

/** Who holds the rights to packages that come without their licence, as their repositories say. */
const holders: Readonly<Record<string, string>> = { 'onnxruntime-web': 'Microsoft Corporation' };

/** The text of a licence that a package only names. @throws Error where that is not known */
async function textOf(name: string, identifier: string): Promise<string> {
  const path = `spdx-license-list/licenses/${identifier}.json`;
  const file = createRequire(import.meta.url).resolve(path);
  const { licenseText } = JSON.parse(await readFile(file, 'utf8')) as { licenseText: string };
  const holder = holders[name];
  const text = licenseText.replace(/<year> <copyright holders>/, holder ?? '$&');
  if (/<[a-z ]+>/.test(text)) throw new Error(`${name}: nobody is named in its ${identifier}`);
  return text;
}

/** Vite lists the licences of what is in the page; those of the worker's packages are added here. */
function workerLicences(): { inWorker: () => Plugin; inPage: Plugin } {
  const folders = new Set<string>();
  return {
    inWorker: () => ({
      name: 'worker-licences',
      generateBundle() {
        for (const id of this.getModuleIds()) {
          const folder = /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(id)?.[0];
          if (folder !== undefined) folders.add(folder.replace(/^\0/, ''));
        }
      },
    }),
    inPage: {
      name: 'all-licences',
      apply: 'build',
      async writeBundle({ dir = 'dist' }) {
        const path = `${dir}/licences.json`;
        const known = JSON.parse(await readFile(path, 'utf8')) as { name: string }[];
        for (const folder of folders) {
          const { name, version, license } = JSON.parse(
            await readFile(`${folder}/package.json`, 'utf8'),
          ) as Record<string, string>;
          if (name === undefined || known.some((one) => one.name === name)) continue;
          const file = (await readdir(folder)).find((one) => /^licen[cs]e(\.|$)/i.test(one));
          const text =
            file === undefined
              ? await textOf(name, license ?? '')
              : await readFile(`${folder}/${file}`, 'utf8');
          known.push(Object.assign({ name }, { version, identifier: license, text }));
        }
        await writeFile(path, JSON.stringify(known));
      },
    },
  };
}

const licences = workerLicences();

/** Many servers do not know that .mjs is JavaScript, and browsers refuse a module of another type. */
const rolldownOptions = {
  output: {
    assetFileNames: ({ names }: { names: readonly string[] }) =>
      names.some((name) => name.endsWith('.mjs'))
        ? 'assets/[name]-[hash].js'
        : 'assets/[name]-[hash][extname]',
  },
};

/** What of the bundler's view of its modules is used. */
interface ModuleGraph {
  getModuleInfo(id: string): { isEntry: boolean; importers: readonly string[] } | null;
}

/**
 * One file for what the page's first script imports, directly or not: parts that come later take
 * what they share with it from there, instead of cutting it into pieces that all come first. The
 * first script itself stays apart: it waits for such a part, which may not wait for it.
 */
function pageChunk(id: string, graph: ModuleGraph): string | null {
  const isEntry = (one: string): boolean => graph.getModuleInfo(one)?.isEntry === true;
  const importersOf = (one: string) => graph.getModuleInfo(one)?.importers ?? [];
  // index.html is the entry, and the first script what it names.
  if (isEntry(id) || importersOf(id).some(isEntry)) return null;
  const seen = new Set<string>();
  const waiting = [id];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    if (seen.has(next)) continue;
    seen.add(next);
    if (isEntry(next)) return 'page';
    waiting.push(...importersOf(next));
  }
  return null;
}

/** The app on the device: our own service worker with the list of files that it keeps. */
const pwa = VitePWA({
  strategies: 'injectManifest',
  srcDir: 'src/offline',
  filename: 'sw.ts',
  injectRegister: false,
  injectManifest: {
    globPatterns: ['**/*.{html,js,css,wasm,svg,png,webmanifest,json}'],
    globIgnores: ['models/**'],
    maximumFileSizeToCacheInBytes: 20e6,
    rollupFormat: 'iife',
    // Their names change with their content.
    dontCacheBustURLsMatching: /^assets\//,
  },
  manifest: {
    id: './',
    name: 'PediatricsGPT 儿科问答 · 研究版',
    short_name: '儿科问答',
    description:
      '在浏览器里离线运行的儿科小模型，研究用，不能代替医生，不用于急症。A small child-health model that runs offline, for research only.',
    lang: 'zh-CN',
    start_url: './',
    scope: './',
    display: 'standalone',
    background_color: '#f4f7f7',
    theme_color: '#f4f7f7',
    categories: ['medical', 'education'],
    icons: [
      { src: 'icons/icon.svg', sizes: 'any', type: 'image/svg+xml', purpose: 'any' },
      { src: 'icons/icon-192.png', sizes: '192x192', type: 'image/png', purpose: 'any' },
      { src: 'icons/icon-512.png', sizes: '512x512', type: 'image/png', purpose: 'any' },
      { src: 'icons/icon-maskable.svg', sizes: 'any', type: 'image/svg+xml', purpose: 'maskable' },
      {
        src: 'icons/icon-maskable-512.png',
        sizes: '512x512',
        type: 'image/png',
        purpose: 'maskable',
      },
    ],
  },
});

export default defineConfig({
  base: './',
  // ONNX Runtime's files by their addresses, instead of a build that carries one of them inside.
  resolve: { conditions: ['onnxruntime-web-use-extern-wasm', ...defaultClientConditions] },
  plugins: [
    svelte(),
    pagePolicy('build'),
    pagePolicy('serve'),
    licences.inPage,
    ...(process.env['VITEST'] ? [plantedBug] : [pwa]),
  ],
  worker: { format: 'es', rolldownOptions, plugins: () => [bareShaders(), licences.inWorker()] },
  build: {
    target: 'es2023',
    chunkSizeWarningLimit: 300,
    rolldownOptions: {
      output: { ...rolldownOptions.output, codeSplitting: { groups: [{ name: pageChunk }] } },
    },
    // Shown by the page about licences.
    license: { fileName: 'licences.json' },
  },
  server: { port, strictPort: true, headers: isolationHeaders },
  preview: { port, strictPort: true, headers: securityHeaders },
  test: {
    include: ['src/**/*.test.ts', 'convert/**/*.test.ts'],
    testTimeout: 60_000,
    env: { NO_COLOR: '1' }, // what command lines print is compared as plain text
    setupFiles: ['src/node/testing/setup.ts'],
    // A GPU driver in software uses every core by itself: test files run two at a time.
    maxWorkers: 2,
  },
});
