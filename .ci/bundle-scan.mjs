/**
 * Looks through the built app for addresses of other sites and for ways to reach them.
 *   node .ci/bundle-scan.mjs [dist]
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import process from 'node:process';

/** Names in the text of messages and of XML: nothing is ever fetched from there. */
const harmless = [
  'http://www.w3.org/', // namespaces
  'http://www.apache.org/licenses/',
  'https://svelte.dev/e/',
  'https://rolldown.rs/',
  'https://github.com/markedjs/marked', // where to report its bugs
  'https://web.dev/',
  'http://localhost', // how to open the app
  'http://192.168…', // an address that cannot work, in the words about it
  'https://offline-check.invalid/', // exists nowhere: the self-check wants to be refused
];

const waysOut =
  /new (?:WebSocket|WebSocketStream|WebTransport|RTCPeerConnection|EventSource|XMLHttpRequest)\b|sendBeacon|importScripts/g;
/** Emscripten's glue can fetch its own binary that way; the policy keeps it on this site. */
const glue = /^(?:ort-wasm|xgrammar)/;
/**
 * The runtime for imported models, in its own chunk of its own worker: it brings a list of models on
 * other sites that is never used, and ways to reach them. Before it runs, that worker has lost its
 * sockets, and its fetch gives out nothing but the imported files (src/peer/served.ts).
 */
const peer = /^web-llm-/;
const peersOwn = [
  'https://huggingface.co/mlc-ai/',
  'https://raw.githubusercontent.com/mlc-ai/binary-mlc-llm-libs/',
  'https://webgpureport.org/',
];
/** Only the peer's worker may name its chunk: it is never a part of the page or of our engine. */
const namesPeer = /web-llm-[\w-]+\.js/;
const mayNamePeer = /^(?:peer-worker-|sw\.js$)/;

const dist = process.argv[2] ?? 'dist';
const findings = [];
let files = 0;
for (const entry of await readdir(dist, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile() || !/\.(?:m?js|css|html|webmanifest)$/.test(entry.name)) continue;
  files += 1;
  const text = await readFile(join(entry.parentPath, entry.name), 'utf8');
  for (const [url] of text.matchAll(/(?:https?|wss?|stun|turn):\/\/[^\s"'`)\\]+/g)) {
    const known = peer.test(entry.name) ? [...harmless, ...peersOwn] : harmless;
    if (!known.some((start) => url.startsWith(start))) findings.push(`${entry.name}: ${url}`);
  }
  if (namesPeer.test(text) && !peer.test(entry.name) && !mayNamePeer.test(entry.name)) {
    findings.push(`${entry.name}: names the chunk of web-llm`);
  }
  for (const [way] of text.matchAll(waysOut)) {
    if (!glue.test(entry.name) && !peer.test(entry.name)) findings.push(`${entry.name}: ${way}`);
  }
}
if (files === 0) findings.push(`${dist} holds no app`);
for (const finding of findings) process.stderr.write(`${finding}\n`);
process.stdout.write(`${files} files of the app name ${findings.length} ways to other sites\n`);
process.exitCode = findings.length === 0 ? 0 : 1;
