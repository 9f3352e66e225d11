/** What of the browser is used. */
export interface AwakeNavigator {
  readonly wakeLock?: Pick<WakeLock, 'request'>;
}
type AwakeDocument = Pick<Document, 'visibilityState' | 'addEventListener' | 'removeEventListener'>;

/**
 * Keeps the screen on until the returned function is called: a phone that sleeps stops computing.
 * The browser takes the lock away with the page out of sight, so it is asked for again. Where it
 * gives none (an old browser, a low battery) nothing is lost but time.
 */
export function keepAwake(navigator: AwakeNavigator, document: AwakeDocument): () => void {
  const { wakeLock } = navigator;
  if (wakeLock === undefined) return () => undefined;
  let held: WakeLockSentinel | null = null;
  let isOver = false;
  const ask = (): void => {
    if (isOver || document.visibilityState !== 'visible') return;
    wakeLock.request('screen').then(
      (lock) => {
        held = lock;
        if (isOver) void lock.release();
      },
      () => undefined, // the browser decides; see above
    );
  };
  ask();
  document.addEventListener('visibilitychange', ask);
  return () => {
    isOver = true;
    document.removeEventListener('visibilitychange', ask);
    void held?.release();
  };
}
