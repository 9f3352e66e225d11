/** The browser's offer to install the app; it comes once, unasked, and can be used later. */
interface InstallOffer extends Event {
  prompt(): Promise<unknown>;
}

export class InstallPrompt {
  #offer: InstallOffer | null = $state.raw(null);
  isInstalled = $state(false);

  /** Listens for the offer; returns what ends that. */
  follow(window: Pick<EventTarget, 'addEventListener' | 'removeEventListener'>): () => void {
    const offered = (event: Event): void => {
      event.preventDefault(); // shown where the person looks for it, not over an answer
      this.#offer = event as InstallOffer;
    };
    const installed = (): void => {
      this.#offer = null;
      this.isInstalled = true;
    };
    window.addEventListener('beforeinstallprompt', offered);
    window.addEventListener('appinstalled', installed);
    return () => {
      window.removeEventListener('beforeinstallprompt', offered);
      window.removeEventListener('appinstalled', installed);
    };
  }

  get canInstall(): boolean {
    return this.#offer !== null;
  }

  /** Lets the browser ask. An offer can be used once; after a no it may make another. */
  async install(): Promise<void> {
    const offer = this.#offer;
    this.#offer = null;
    await offer?.prompt();
  }
}

/** How the app comes to the home screen where the browser makes no offer. */
export function installHint(agent: string): 'ios' | 'firefox' | null {
  if (/iPhone|iPad|iPod/.test(agent)) return 'ios';
  return /Firefox\//.test(agent) ? 'firefox' : null;
}
