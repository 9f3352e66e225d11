import { execFile, spawn } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { securityHeaders } from '../offline/headers.ts';
import { release } from './release.ts';

const run = promisify(execFile);
let folder: string;
let parts: { dist: string; pictures: string; out: string };

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'release-'));
  parts = {
    dist: join(folder, 'dist'),
    pictures: join(folder, 'pictures'),
    out: join(folder, 'out'),
  };
  await mkdir(join(parts.dist, 'models/nano'), { recursive: true });
  await mkdir(join(parts.dist, 'assets'));
  await mkdir(parts.pictures);
  await writeFile(join(parts.dist, 'index.html'), '<!doctype html><title>app</title>');
  await writeFile(join(parts.dist, 'assets/a.wasm'), 'wasm');
  await writeFile(join(parts.dist, 'models/nano/manifest.json'), '{}');
  for (const name of ['answer.png', 'phone-answer.png', 'phone-emergency.png']) {
    await writeFile(join(parts.pictures, name), name);
  }
});

afterEach(() => rm(folder, { recursive: true, force: true }));

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

test('every file is in the list of checksums, which agrees', async () => {
  const { files } = await release(parts);
  const { stdout } = await run('sha256sum', ['-c', 'SHA256SUMS'], { cwd: parts.out });
  expect(stdout.trim().split('\n')).toHaveLength(files);
  expect(stdout).not.toContain('FAILED');
  await writeFile(join(parts.out, 'app/index.html'), 'changed');
  await expect(run('sha256sum', ['-c', 'SHA256SUMS'], { cwd: parts.out })).rejects.toThrow();
});

test('the server sends the headers and types, and nothing from outside the app', async () => {
  await release(parts);
  const port = await freePort();
  const server = spawn('sh', ['start-linux.sh', String(port), '--quiet'], { cwd: parts.out });
  try {
    await new Promise((resolve) => server.stdout.once('data', resolve));
    const page = await fetch(`http://127.0.0.1:${port}/`);
    expect(await page.text()).toContain('<title>app</title>');
    for (const [name, value] of Object.entries(securityHeaders)) {
      expect(page.headers.get(name)).toBe(value);
    }
    const wasm = await fetch(`http://127.0.0.1:${port}/assets/a.wasm`);
    expect(wasm.headers.get('content-type')).toBe('application/wasm');
    await wasm.text();
    for (const path of ['/assets/', '/../serve.py', '/%2e%2e/serve.py', '/none.js']) {
      const answer = await fetch(`http://127.0.0.1:${port}${path}`);
      expect([path, answer.status]).toEqual([path, 404]);
      await answer.text();
    }
    // A second one says that the first is there.
    const second = run('python3', ['serve.py', String(port), '--quiet'], { cwd: parts.out });
    await expect(second).rejects.toThrow(`http://localhost:${port}`);
  } finally {
    server.kill();
  }
});

test('the command file for Windows has its headers, types and ends of line', async () => {
  await release(parts);
  const text = await readFile(join(parts.out, 'start-windows.cmd'), 'utf8');
  expect(text).not.toMatch(/(?<!\r)\n/);
  expect(text).not.toContain('%HEADERS%');
  expect(text).toContain(JSON.stringify(securityHeaders));
  // Inside a here-string of PowerShell only its own end counts.
  expect(text.match(/^'@\r$/gm)).toHaveLength(2);
});

test('a folder with something in it is left alone, and an app that is not built is told', async () => {
  await mkdir(parts.out);
  await writeFile(join(parts.out, 'mine.txt'), 'mine');
  await expect(release(parts)).rejects.toMatchObject({ name: 'Usage' });
  expect(await readFile(join(parts.out, 'mine.txt'), 'utf8')).toBe('mine');
  await rm(parts.dist, { recursive: true });
  await expect(release({ ...parts, out: join(folder, 'b') })).rejects.toThrow('npm run build');
});
