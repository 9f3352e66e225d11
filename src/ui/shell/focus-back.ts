/**
 * For a note that comes and goes by itself: whoever is in it when it goes would fall out of the page,
 * to its very beginning. They get back to where they were before.
 */

/** Where to, if what had the focus before is gone: the question's field, or the screen's title. */
const PLACES = '#compare-question, #composer, main h2[tabindex]';

/** What had it before may go a moment after the note: the button that stops an answer, with the answer. */
const SOON_MS = 300;

/** Begins to watch over the note; what it gives back is called when the note goes. */
export function focusBack(note: HTMLElement): () => void {
  let before: HTMLElement | null = null;
  let isInside = false;
  const onfocusin = ({ relatedTarget: from }: FocusEvent): void => {
    isInside = true;
    if (from instanceof HTMLElement && !note.contains(from)) before = from;
  };
  const onfocusout = ({ relatedTarget: to }: FocusEvent): void => {
    // Nowhere: the note goes, or the window, or the person has pressed beside everything.
    const left = (): boolean =>
      note.isConnected && document.hasFocus() && !note.contains(focused());
    if (to !== null) isInside = note.contains(to as Node);
    else queueMicrotask(() => (isInside &&= !left()));
  };
  note.addEventListener('focusin', onfocusin);
  note.addEventListener('focusout', onfocusout);
  return () => {
    note.removeEventListener('focusin', onfocusin);
    note.removeEventListener('focusout', onfocusout);
    if (!isInside) return;
    before?.focus();
    toPlace();
    setTimeout(toPlace, SOON_MS);
  };
}

/** Where nothing has the focus: what was disabled, hidden or gone did not take it. */
function toPlace(): void {
  const isNowhere = focused() === null || focused() === document.body;
  if (isNowhere) document.querySelector<HTMLElement>(PLACES)?.focus();
}

const focused = (): Element | null => document.activeElement;
