/**
 * Closes the ways out of the page that a Content-Security-Policy leaves open. Imported first, by
 * the page and by the worker, before anything else runs.
 */

/** What of the Trusted Types API is used; the DOM library of TypeScript has none of it yet. */
interface TrustedTypes {
  readonly defaultPolicy: unknown;
  createPolicy(
    name: string,
    rules: Readonly<
      Record<'createHTML' | 'createScript' | 'createScriptURL', (s: string) => string>
    >,
  ): unknown;
}

/** Where this code runs: a window or a worker. */
export interface Surroundings {
  readonly location: { readonly href: string; readonly origin: string };
  readonly trustedTypes?: TrustedTypes;
}

/** Peer connections send packets under every policy: this app has no use for them. */
const waysOut = ['RTCPeerConnection', 'webkitRTCPeerConnection', 'WebTransport', 'WebSocketStream'];

/**
 * Removes peer connections, and lets text become code only as the address of one of our own
 * scripts. HTML is never made from text: the page builds its nodes.
 */
export function closeBoundary(where: Surroundings): void {
  for (const name of waysOut) Reflect.deleteProperty(where, name);
  const { trustedTypes } = where;
  if (trustedTypes === undefined || trustedTypes.defaultPolicy !== null) return;
  trustedTypes.createPolicy('default', {
    createHTML: refuse('HTML'),
    createScript: refuse('a script'),
    createScriptURL: (address) => ownScript(address, where.location),
  });
}

const refuse = (what: string) => (): never => {
  throw new TypeError(`${what} is never made from text here`);
};

/** @throws TypeError where the address is not a script of this site */
function ownScript(address: string, { href, origin }: Surroundings['location']): string {
  const url = new URL(address, href);
  // A worker's threads are started from an address that the runtime has made of its own script.
  if (url.origin === origin && /\.m?[jt]s$/.test(url.pathname)) return url.href;
  throw new TypeError(`${url.href} is no script of this site`);
}
