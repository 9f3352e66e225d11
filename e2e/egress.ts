import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';

/**
 * The rest of the world, for the whole run: every host name that the browser looks up leads here
 * (`--host-resolver-rules` in playwright.config.ts), and nothing may ever come.
 */
export const EGRESS_PORT = Number(process.env['E2E_EGRESS_PORT'] ?? 4899);

/** What Chromium itself asks for, with or without a page of ours. */
const browsersOwn = /(?:^|\.)(?:google|googleapis|gstatic|gvt1|chromium)\.(?:com|org)/;

export default async function watchEgress(): Promise<() => Promise<void>> {
  const heard: Buffer[][] = [];
  const tcp = createServer((socket) => {
    const parts: Buffer[] = [];
    heard.push(parts);
    socket.on('data', (bytes) => parts.push(bytes));
    socket.on('error', () => undefined); // it was heard: how it ends does not matter
  });
  const udp = createSocket('udp4', (bytes) => heard.push([bytes]));
  await new Promise<void>((resolve, reject) => {
    tcp.once('error', reject);
    tcp.listen(EGRESS_PORT, '127.0.0.1', resolve);
  });
  await new Promise<void>((resolve, reject) => {
    udp.once('error', reject);
    udp.bind(EGRESS_PORT, '127.0.0.1', resolve);
  });
  return async () => {
    await new Promise<void>((resolve) => tcp.close(() => resolve()));
    await new Promise<void>((resolve) => udp.close(() => resolve()));
    const strange = heard.map(receiver).filter((name) => name !== null);
    if (strange.length > 0) {
      throw new Error(`the browser tried to reach other sites: ${strange.join(', ')}`);
    }
  };
}

/** Whom the bytes were meant for; null for the browser's own, and where nothing was sent. */
function receiver(parts: readonly Buffer[]): string | null {
  const text = Buffer.concat(parts).toString('latin1');
  if (text === '') return null; // a connection that the browser has opened in advance
  // A TLS greeting names the host in plain text, an HTTP request too.
  const names = text.match(/(?<![a-z0-9.-])(?:[a-z0-9-]+\.)+[a-z]{2,}(?![a-z0-9.-])/g) ?? [];
  if (names.some((name) => browsersOwn.test(name))) return null;
  return names.join(' ') || `${text.length} bytes`;
}
