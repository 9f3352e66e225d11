import { recall, remember } from './memory.ts';

/**
 * A mark that outlives a page that dies: set before a phase in which a browser may run out of memory
 * or a driver may take the page down, and taken away when it is over. Who closes or reloads the page
 * takes it away as well; a page that is killed cannot.
 */
const NAME = 'risk';

export type RiskyPhase = 'load' | 'answer';

export function enterRisk(phase: RiskyPhase): void {
  remember(NAME, phase);
}

export function leaveRisk(): void {
  remember(NAME, null);
}

/** The phase in which the page died the last time; null where it did not. Forgets it. */
export function diedIn(): RiskyPhase | null {
  const phase = recall(NAME);
  leaveRisk();
  return phase === 'load' || phase === 'answer' ? phase : null;
}

/** Takes the mark away when the page is left. */
export function leaveRiskWithPage(page: Pick<EventTarget, 'addEventListener'>): void {
  page.addEventListener('pagehide', leaveRisk);
}
