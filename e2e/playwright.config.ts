import { existsSync } from 'node:fs';
import { defineConfig } from '@playwright/test';
import { EGRESS_PORT } from './egress.ts';

/** Real Chromium; SwiftShader stands in for the GPU, so that every machine gives the same answer. */

const places = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const chromium = process.env['CHROMIUM'] ?? places.find((place) => existsSync(place));
if (chromium === undefined) {
  throw new Error('No Chromium found: install Debian’s `chromium`, or set CHROMIUM to its path.');
}

/** Whatever the browser looks up leads to a listener that must hear nothing. */
const nowhereElse = `--host-resolver-rules=MAP * 127.0.0.1:${EGRESS_PORT}, EXCLUDE 127.0.0.1`;
/** Lets a test collect garbage at the worst of moments. */
const gc = '--js-flags=--expose-gc';
const common = ['--headless=new', '--no-sandbox', gc, nowhereElse];
const swiftshader = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];

/** What is tested in a browser that has no WebGPU. */
const withoutAdapter = ['no-adapter.spec.ts', 'cpu.spec.ts'];

const launch = (args: readonly string[]) => ({
  launchOptions: { executablePath: chromium, args: [...args] },
});

export default defineConfig({
  testDir: '.',
  globalSetup: './egress.ts',
  outputDir: '../test-results',
  reporter: [['list']],
  forbidOnly: process.env['CI'] !== undefined,
  retries: 0,
  // SwiftShader takes every core for itself.
  workers: 1,
  timeout: 60_000,
  expect: { timeout: 20_000 },
  use: { locale: 'zh-CN', viewport: { width: 1280, height: 800 }, actionTimeout: 15_000 },
  projects: [
    {
      name: 'webgpu',
      testIgnore: withoutAdapter,
      use: launch([...common, ...swiftshader]),
    },
    { name: 'no-adapter', testMatch: withoutAdapter, use: launch(common) },
  ],
});
