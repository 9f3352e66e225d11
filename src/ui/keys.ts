/** What a key press in the composer means. */
export interface KeyPress {
  readonly key: string;
  readonly shiftKey: boolean;
  readonly ctrlKey: boolean;
  readonly altKey: boolean;
  readonly metaKey: boolean;
  readonly isComposing: boolean;
  readonly keyCode: number;
}

/** Browsers give this code to keys that an input method has taken, some of them after its end. */
const TAKEN_BY_INPUT_METHOD = 229;

/** True while an input method composes: then a key belongs to it and never to the page. */
function isComposing(press: KeyPress): boolean {
  return press.isComposing || press.keyCode === TAKEN_BY_INPUT_METHOD;
}

/** Enter sends; with Shift it is a new line. */
export function isSend(press: KeyPress): boolean {
  const modified = press.shiftKey || press.ctrlKey || press.altKey || press.metaKey;
  return press.key === 'Enter' && !modified && !isComposing(press);
}

/** Escape stops the running answer. */
export function isStop(press: KeyPress): boolean {
  return press.key === 'Escape' && !isComposing(press);
}
