import { type DangerSign, dangerSigns, findDangerSigns } from '../safety/danger-signs.ts';

/**
 * The danger signs of one conversation: in what was asked and in what is being typed. A sign that
 * nobody has acknowledged yet keeps the banner open.
 */
export class Alarm {
  #typed = $state('');
  #acknowledged = $state<readonly string[]>([]);
  readonly #questions: () => readonly string[];
  readonly #inQuestions = $derived.by(() => signsOf(this.#questions(), ''));
  readonly signs = $derived.by(() =>
    this.#typed === '' ? this.#inQuestions : signsOf(this.#questions(), this.#typed),
  );
  readonly isOpen = $derived(this.signs.some(({ id }) => !this.#acknowledged.includes(id)));

  constructor(questions: () => readonly string[], typed = '') {
    this.#questions = questions;
    this.#typed = typed;
  }

  /** Looks at what is being typed. */
  look(draft: string): void {
    this.#typed = draft;
  }

  /** The person has read it: folded away until a sign comes that is new. */
  acknowledge(): void {
    this.#acknowledged = [...this.#acknowledged, ...this.signs.map(({ id }) => id)];
  }

  /** A new conversation knows of no acknowledgement. */
  forget(): void {
    this.#acknowledged = [];
  }
}

/**
 * Each text is read alone, so that an older child in one question cannot hide a baby in another,
 * and all together, for the age may stand in one and the fever in the next.
 */
function signsOf(questions: readonly string[], typed: string): readonly DangerSign[] {
  const texts = typed === '' ? questions : [...questions, typed];
  const whole = texts.length > 1 ? [...texts, texts.join('。\n')] : texts;
  const found = whole.flatMap((text) => findDangerSigns(text));
  return dangerSigns.filter((sign) => found.includes(sign)); // in the table's order, once each
}
