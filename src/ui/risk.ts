import { namesOf, recall, remember } from './memory.ts';

/**
 * Marks that outlive pages that die: set before a phase in which a browser may run out of memory or
 * a driver may take the page down, and taken away when it is over. Who closes or reloads a page takes
 * its mark away as well; a page that is killed cannot. Every window has a mark of its own and holds
 * the lock of its name for as long as it lives: a mark whose lock is free is a dead page's.
 */
const NAME = 'risk';

const phases = ['load', 'answer', 'compare'] as const;
export type RiskyPhase = (typeof phases)[number];

/** How the model is run: as usual, as plainly as the GPU can, on the CPU. Each asks for less than the one before. */
export const cares = ['usual', 'careful', 'cpu'] as const;
export type Care = (typeof cares)[number];

/** What a page did when it died. */
export interface Death {
  readonly phase: RiskyPhase;
  readonly care: Care;
}

/** What is used of the browser's locks. */
export interface Locks {
  request(name: string, work: () => Promise<void>): Promise<unknown>;
  query(): Promise<{ held?: readonly { readonly name?: string }[] }>;
}

/** The mark of one window. Where the browser has no locks nobody could read it, and there is none. */
export class Risk {
  /** How the model is run in this window. */
  care: Care = 'usual';
  readonly #locks: () => Locks | undefined;
  /** What is under way, the newest last. */
  readonly #underWay = new Set<{ readonly phase: RiskyPhase }>();
  #isAsked = false;
  /** The mark's name, once the lock is held. */
  #name: string | null = null;

  constructor(locks: () => Locks | undefined = () => globalThis.navigator?.locks) {
    this.#locks = locks;
  }

  /** Sets the mark; what it gives takes it away. */
  enter(phase: RiskyPhase): () => void {
    this.#hold();
    const one = { phase };
    this.#underWay.add(one);
    this.#write();
    return () => {
      this.#underWay.delete(one);
      this.#write();
    };
  }

  /** What the page that died was at, the most careful of several; null where none died. Forgets it. */
  async death(): Promise<Death | null> {
    const names = namesOf(NAME).filter((name) => name !== this.#name);
    const locks = this.#locks();
    if (names.length === 0 || !locks) return null;
    const { held = [] } = await locks.query();
    const alive = new Set(held.map(({ name }) => name));
    const dead = names.filter((name) => !alive.has(lockOf(name)));
    const deaths = dead.flatMap((name) => deathOf(recall(name)) ?? []);
    for (const name of dead) remember(name, null);
    return deaths.sort((a, b) => cares.indexOf(b.care) - cares.indexOf(a.care))[0] ?? null;
  }

  /** Takes the mark away when the page is left. */
  follow(page: Pick<EventTarget, 'addEventListener'>): void {
    this.#hold();
    page.addEventListener('pagehide', () => {
      this.#underWay.clear();
      this.#write();
    });
  }

  /** Asks for the lock, once. No mark is written before it is there: it would be taken for a dead page's. */
  #hold(): void {
    const locks = this.#locks();
    if (this.#isAsked || !locks) return;
    this.#isAsked = true;
    const name = `${NAME}.${crypto.randomUUID()}`;
    const held = locks.request(lockOf(name), () => {
      this.#name = name;
      this.#write();
      return new Promise<void>(() => undefined);
    });
    held.catch(() => undefined); // no lock, no mark
  }

  #write(): void {
    if (this.#name === null) return;
    const newest = [...this.#underWay].at(-1);
    remember(this.#name, newest ? `${newest.phase} ${this.care}` : null);
  }
}

/** That of this window. */
export const risk = new Risk();

const lockOf = (name: string): string => `pediatricsgpt-${name}`;

/** Null for what is no mark. The edition before wrote a phase only. */
function deathOf(mark: string | null): Death | null {
  const [first, second = 'usual'] = (mark ?? '').split(' ');
  const phase = phases.find((known) => known === first);
  const care = cares.find((known) => known === second);
  return phase && care ? { phase, care } : null;
}
