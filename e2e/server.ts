import { createHash } from 'node:crypto';
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
  | 'trickle' // every byte there, in twenty pieces over ten seconds
  | 'stalled' // half of what was asked for, and then nothing more
  | 'broken' // 500
  | 'no-range' // 416 to every range, every byte else
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
  readonly from: number; // the first byte that was asked for
}

/** The built app: `dist/`, or another build's folder by its absolute path. */
export const dist = join(
  process.env['E2E_DIST'] ?? fileURLToPath(new URL('../dist/', import.meta.url)),
  sep,
);
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
  readonly #served = new Map<string, number>();
  readonly #editions = new Map<string, string>();
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

  /** Serves another text at a path of the app, as after an update. */
  replace(path: string, text: string): void {
    this.#editions.set(path, text);
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
    const edition = this.#editions.get(path);
    if (edition !== undefined && fault === undefined) {
      this.log.push({ path, status: 200, from: 0 });
      response.writeHead(200, { 'content-type': types[extname(path)] ?? 'text/plain' });
      response.end(edition);
      return;
    }
    const file = fault === 'missing' || fault === 'dead' ? null : await find(path);
    const asked = /^bytes=(\d+)-$/.exec(request.headers.range ?? '');
    const from = asked === null ? 0 : Number(asked[1]);
    const status = statusOf(fault, file !== null, from);
    this.log.push({ path, status, from });
    if (status === 0) {
      response.destroy();
    } else if (file === null || status >= 400) {
      response.writeHead(status, { 'content-type': 'text/plain' }).end('no such thing');
    } else {
      const bytes = await readFile(file);
      const condition = request.headers['if-range'];
      const isPart = asked !== null && (condition === undefined || condition === tagOf(bytes));
      const type = types[extname(file)] ?? 'application/octet-stream';
      await respond(response, fault, bytes, isPart ? from : null, type, (sent) => {
        this.#served.set(path, (this.#served.get(path) ?? 0) + sent);
      });
    }
  }

  /** Bytes that were given out below a path. */
  served(start: string): number {
    const given = [...this.#served].filter(([path]) => path.startsWith(start));
    return given.reduce((sum, [, bytes]) => sum + bytes, 0);
  }

  /** Counts from zero again, and forgets what was asked. */
  forget(): void {
    this.log.length = 0;
    this.#served.clear();
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

function statusOf(fault: Fault | undefined, isThere: boolean, from: number): number {
  if (fault === 'dead') return 0;
  if (fault === 'broken') return 500;
  if (fault === 'no-range' && from > 0) return 416;
  return isThere ? 200 : 404;
}

const tagOf = (bytes: Buffer): string =>
  `"${createHash('sha256').update(bytes).digest('hex').slice(0, 16)}"`;

/** Sends a file, from a byte on where a part is asked for, in the way that the fault wants. */
async function respond(
  response: ServerResponse,
  fault: Fault | undefined,
  whole: Buffer,
  from: number | null,
  type: string,
  count: (sent: number) => void,
): Promise<void> {
  const headers: Record<string, string | number> = { 'content-type': type, etag: tagOf(whole) };
  const status = from === null ? 200 : 206;
  const rest = whole.subarray(from ?? 0);
  if (from !== null) headers['content-range'] = `bytes ${from}-${whole.length - 1}/${whole.length}`;
  /** The middle of the file: a part that starts behind it has nothing before a break. */
  const half = rest.subarray(0, Math.max(0, (whole.length >> 1) - (from ?? 0)));
  switch (fault) {
    case 'web-page':
      response.writeHead(200, { 'content-type': 'text/html' });
      response.end('<!doctype html><title>Not the file</title>');
      return;
    case 'truncated':
      response.writeHead(status, { ...headers, 'content-length': half.length }).end(half);
      count(half.length);
      return;
    case 'cut':
      response.writeHead(status, { ...headers, 'content-length': rest.length });
      response.write(half, () => response.destroy());
      count(half.length);
      return;
    case 'stalled':
      response.writeHead(status, { ...headers, 'content-length': rest.length });
      response.write(half);
      count(half.length);
      return;
    case 'slow':
    case 'trickle': {
      response.writeHead(status, { ...headers, 'content-length': rest.length });
      const step = Math.ceil(whole.length / 20);
      for (let at = 0; at < rest.length && !response.destroyed; at += step) {
        const piece = rest.subarray(at, at + step);
        response.write(piece);
        count(piece.length);
        await setTimeout(fault === 'slow' ? 50 : 500);
      }
      response.end();
      return;
    }
    case 'corrupt': {
      const wrong = Buffer.from(rest);
      const at = wrong.length >> 1;
      wrong[at] = (wrong[at] ?? 0) ^ 1;
      response.writeHead(status, headers).end(wrong);
      count(wrong.length);
      return;
    }
    // What concerns the status alone: the bytes are as they should be.
    case 'broken':
    case 'dead':
    case 'missing':
    case 'no-range':
    case undefined:
      response.writeHead(status, headers).end(rest);
      count(rest.length);
  }
}
