import { svelte } from '@sveltejs/vite-plugin-svelte';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';

/** Storage in the browser is tied to the port, so it never changes. */
const port = 4820;

/** While developing, Vite puts styles into the page itself; the built page needs no such thing. */
const inlineStylesInDev: Plugin = {
  name: 'inline-styles-in-dev',
  apply: 'serve',
  transformIndexHtml: (html) =>
    html.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'"),
};

export default defineConfig({
  base: './',
  plugins: [svelte(), inlineStylesInDev],
  worker: { format: 'es' },
  build: { target: 'es2023', chunkSizeWarningLimit: 300 },
  server: { port, strictPort: true },
  preview: { port, strictPort: true },
  test: {
    include: ['src/**/*.test.ts', 'convert/**/*.test.ts'],
    testTimeout: 60_000,
    env: { NO_COLOR: '1' }, // what command lines print is compared as plain text
    // A GPU driver in software uses every core by itself: test files run two at a time.
    maxWorkers: 2,
  },
});
