/** What the page and the service worker say to each other: types only. */

/** What the service worker keeps. */
export interface OfflineState {
  readonly version: string;
  /** Files without which the page does not start: kept, and in all. */
  readonly shell: Kept;
  /** Files that are fetched when they are first needed, or when there is time. */
  readonly later: Kept;
}

export interface Kept {
  readonly kept: number;
  readonly total: number;
}

export type OfflineMessage =
  | { readonly kind: 'state' }
  /** Fetches what is not needed to start, so that it is there without a network. */
  | { readonly kind: 'store-later' }
  /** A new edition takes over: the person has agreed. */
  | { readonly kind: 'take-over' };

/** What the rest of the page may ask for. */
export interface Offline {
  /** Calls back when a new edition waits to take over. */
  onUpdate(tell: () => void): void;
  /** Lets the new edition take over and loads the page anew. */
  update(): void;
  /** Null where the browser has no service worker or none is at work yet. */
  state(): Promise<OfflineState | null>;
  /** Fetches what is not needed to start. */
  storeLater(): Promise<void>;
}
