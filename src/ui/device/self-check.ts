import type { Kept, Offline } from '../../offline/api.ts';

/** What works without a network, found out by looking and not by trusting. */

export type CheckName =
  'secure' | 'worker' | 'shell' | 'later' | 'model' | 'isolated' | 'peers' | 'policy';

/** True and false, or how much of it; null where it cannot be known. */
export type CheckResult = boolean | Kept | null;
export type Checks = Readonly<Record<CheckName, CheckResult>>;

/** What of a window is used. */
export interface CheckWindow {
  readonly isSecureContext: boolean;
  readonly crossOriginIsolated: boolean;
  readonly document: Pick<Document, 'addEventListener' | 'removeEventListener'>;
  fetch(url: string): Promise<unknown>;
}

/** No such address can exist (RFC 2606): where nothing forbids the request, it still goes nowhere. */
const NOWHERE = 'https://offline-check.invalid/';

/**
 * Looks at everything that this app needs to work, and to keep to itself, without a network.
 * @param modelIsReady whether a model has passed its self-test in this visit
 */
export async function selfCheck(
  window: CheckWindow,
  offline: Offline | undefined,
  modelIsReady: boolean,
): Promise<Checks> {
  const state = (await offline?.state()) ?? null;
  return {
    secure: window.isSecureContext,
    worker: state !== null,
    shell: state?.shell ?? null,
    later: state?.later ?? null,
    model: modelIsReady,
    isolated: window.crossOriginIsolated,
    peers: !('RTCPeerConnection' in window),
    policy: await isForbidden(window),
  };
}

/** Whether the page's policy refuses a request to another site, tried with one that leads nowhere. */
async function isForbidden(window: CheckWindow): Promise<boolean> {
  let refused = false;
  const tell = (event: Event): void => {
    const { blockedURI } = event as SecurityPolicyViolationEvent;
    if (blockedURI.startsWith(NOWHERE.slice(0, -1))) refused = true;
  };
  window.document.addEventListener('securitypolicyviolation', tell);
  try {
    await window.fetch(NOWHERE);
  } catch {
    // It fails in any case; the event tells why.
  }
  await new Promise((resolve) => setTimeout(resolve, 0));
  window.document.removeEventListener('securitypolicyviolation', tell);
  return refused;
}

export const isWhole = (result: CheckResult): boolean | null =>
  result === null || typeof result === 'boolean' ? result : result.kept === result.total;
