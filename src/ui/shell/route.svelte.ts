/** Which screen the page shows. It stands in the address, so that the browser's buttons work. */

export const screens = ['consult', 'records', 'models', 'compare', 'device', 'licences'] as const;
export type Screen = (typeof screens)[number];

/** What of a window is used. */
export interface RouteWindow {
  readonly location: { hash: string };
  addEventListener(kind: 'hashchange', tell: () => void): void;
  removeEventListener(kind: 'hashchange', tell: () => void): void;
}

export class Route {
  screen = $state<Screen>('consult');

  /** Follows the address; returns what ends that. */
  follow(window: RouteWindow): () => void {
    const read = (): void => {
      this.screen = screenOf(window.location.hash);
    };
    read();
    window.addEventListener('hashchange', read);
    return () => window.removeEventListener('hashchange', read);
  }
}

/** The address of a screen. */
export const hrefOf = (screen: Screen): string => `#/${screen === 'consult' ? '' : screen}`;

/** The screen that an address names; the consultation where it names none. */
export function screenOf(hash: string): Screen {
  const name = hash.replace(/^#\/?/, '');
  return screens.find((screen) => screen === name) ?? 'consult';
}
