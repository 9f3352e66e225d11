import { createReadStream } from 'node:fs';
import { access, readFile, stat } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { extname, join, normalize, sep } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

/** A static server for the built app that can be told to fail, and remembers what it was asked. */

export type Fault =
  | 'missing' // 404
  | 'truncated' // half of the file, and a Content-Length that agrees
  | 'cut' // the connection breaks off in the middle
  | 'web-page' // 200 with an HTML page, as servers of one-page apps do
  | 'corrupt' // every byte there, one of them wrong
  | 'slow' // every byte there, in twenty pieces over a second
  | 'dead'; // no answer at all

/** What computes: tests name it. */
export type Backend = 'auto' | 'webgpu' | 'cpu';

export interface ServerOptions {
  /** Makes the page cross-origin isolated, so that WebAssembly may have threads. Default false. */
  readonly isolated?: boolean;
}

export interface LoggedRequest {
  readonly path: string;
  readonly status: number; // 0 where no answer was given
}

const dist = fileURLToPath(new URL('../dist/', import.meta.url));
const fixtures = fileURLToPath(new URL('./fixtures/', import.meta.url));

const isolation = {
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
};

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
  '.webmanifest': 'application/manifest+json',
  '.wasm': 'application/wasm',
};

export class AppServer {
  readonly log: LoggedRequest[] = [];
  readonly #faults = new Map<string, Fault>();
  readonly #server: Server;

  private constructor({ isolated = false }: ServerOptions) {
    this.#server = createServer((request, response) => {
      for (const [name, value] of Object.entries(isolated ? isolation : {})) {
        response.setHeader(name, value);
      }
      this.#answer(request, response).catch((error: unknown) => {
        response.destroy(error instanceof Error ? error : new Error(String(error)));
      });
    });
  }

  /** Serves `dist/` on a free port; the built app must be there. */
  static async start(options: ServerOptions = {}): Promise<AppServer> {
    await access(join(dist, 'index.html')).catch((cause: unknown) => {
      throw new Error('dist/ holds no app: run `npm run build` first', { cause });
    });
    const server = new AppServer(options);
    await new Promise<void>((resolve) => server.#server.listen(0, '127.0.0.1', resolve));
    return server;
  }

  /** The app's address, with the package of that name and what shall compute. */
  url(model?: string, backend: Backend = 'webgpu'): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the server is closed');
    const query = new URLSearchParams({ ...(model === undefined ? {} : { model }), backend });
    return `http://127.0.0.1:${address.port}/?${query}`;
  }

  /** Lets every path that starts so fail; the longest such start decides. */
  break(path: string, fault: Fault): void {
    this.#faults.set(path, fault);
  }

  repair(): void {
    this.#faults.clear();
  }

  /** Paths asked for below `path`, in order. */
  requests(path: string): string[] {
    return this.log.map((request) => request.path).filter((asked) => asked.startsWith(path));
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname);
    const fault = this.#fault(path);
    const file = fault === 'missing' || fault === 'dead' ? null : await find(path);
    const status = fault === 'dead' ? 0 : file === null ? 404 : 200;
    this.log.push({ path, status });
    if (fault === 'dead') {
      response.destroy();
    } else if (file === null || fault === 'missing') {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('not found');
    } else if (fault === undefined) {
      response.writeHead(200, {
        'content-type': types[extname(file)] ?? 'application/octet-stream',
      });
      createReadStream(file).pipe(response);
    } else {
      await respondBadly(response, fault, await readFile(file));
    }
  }

  #fault(path: string): Fault | undefined {
    const starts = [...this.#faults.keys()].filter((start) => path.startsWith(start));
    const longest = starts.toSorted((a, b) => b.length - a.length)[0];
    return longest === undefined ? undefined : this.#faults.get(longest);
  }
}

/** The file behind a path: fixtures stand in front of the packages that the app brings along. */
async function find(path: string): Promise<string | null> {
  const inside = normalize(path).slice(1);
  const model = /^models\/(.+)$/.exec(inside)?.[1];
  const places = model === undefined ? [] : [join(fixtures, model)];
  places.push(join(dist, inside === '' ? 'index.html' : inside));
  for (const place of places) {
    const known = place.startsWith(dist) || place.startsWith(fixtures);
    if (!known || place.endsWith(sep)) continue;
    const found = await stat(place).catch(() => null);
    if (found?.isFile() === true) return place;
  }
  return null;
}

async function respondBadly(
  response: ServerResponse,
  fault: Exclude<Fault, 'missing' | 'dead'>,
  bytes: Buffer,
): Promise<void> {
  const half = bytes.subarray(0, bytes.length >> 1);
  const type = 'application/octet-stream';
  switch (fault) {
    case 'web-page':
      response.writeHead(200, { 'content-type': 'text/html' });
      response.end('<!doctype html><title>Not the file</title>');
      return;
    case 'truncated':
      response.writeHead(200, { 'content-type': type, 'content-length': half.length }).end(half);
      return;
    case 'cut':
      response.writeHead(200, { 'content-type': type, 'content-length': bytes.length });
      response.write(half, () => response.destroy());
      return;
    case 'slow': {
      response.writeHead(200, { 'content-type': type, 'content-length': bytes.length });
      const step = Math.ceil(bytes.length / 20);
      for (let at = 0; at < bytes.length; at += step) {
        response.write(bytes.subarray(at, at + step));
        await setTimeout(50);
      }
      response.end();
      return;
    }
    case 'corrupt': {
      const wrong = Buffer.from(bytes);
      wrong[half.length] = (wrong[half.length] ?? 0) ^ 1;
      response.writeHead(200, { 'content-type': type }).end(wrong);
    }
  }
}
