import { Failure } from '../../failure.ts';
import { type Change, MemoryPlace, type Place } from './place.ts';
import type { Consultation, Message } from './shapes.ts';

/** The fewest rounds that a stored lock may ask for: tests have many passphrases. */
export const QUICK = { rounds: 10_000 };

/** A place whose n-th operation fails; with `dies`, every later one as well, as for a killed page. */
export class FaultyPlace implements Place {
  operations = 0;
  readonly #under: Place;
  readonly #failAt: number;
  readonly #dies: boolean;

  constructor(under: Place, failAt: number, dies: boolean) {
    this.#under = under;
    this.#failAt = failAt;
    this.#dies = dies;
  }

  get(key: string): Promise<unknown> {
    return this.#try(() => this.#under.get(key));
  }

  list(prefix: string): Promise<[string, unknown][]> {
    return this.#try(() => this.#under.list(prefix));
  }

  change(
    keys: readonly string[],
    decide: (found: readonly unknown[]) => readonly Change[],
  ): Promise<void> {
    return this.#try(() => this.#under.change(keys, decide));
  }

  async #try<T>(work: () => Promise<T>): Promise<T> {
    const n = this.operations;
    this.operations += 1;
    if (n === this.#failAt || (this.#dies && n > this.#failAt)) {
      throw new Failure('StorageFull', `operation ${n} fails`);
    }
    return work();
  }
}

/** Puts values into a place as they are. */
export async function plant(place: Place, values: Readonly<Record<string, unknown>>) {
  const changes = Object.entries(values).map(([key, value]) => ({ key, value }));
  await place.change([], () => changes);
}

/** Every byte that lies in a place, as text: what somebody finds who looks into the files. */
export async function rawText(place: Place): Promise<string> {
  const parts: string[] = [];
  const walk = (value: unknown): void => {
    if (value instanceof Uint8Array) {
      parts.push(new TextDecoder('utf-8').decode(value), new TextDecoder('utf-16le').decode(value));
    } else if (typeof value === 'object' && value !== null) {
      for (const [key, inner] of Object.entries(value)) {
        parts.push(key);
        walk(inner);
      }
    } else parts.push(String(value));
  };
  for (const entry of await place.list('')) walk(entry);
  return parts.join('\n');
}

export const NOW = '2026-11-20T08:00:00.000Z';

export function message(
  id: string,
  parent: string | null,
  text: string,
  more: Partial<Message> = {},
) {
  const role: Message['role'] = id.startsWith('q') ? 'user' : 'assistant';
  const nothing = { model: null, backend: null, variant: null, finish: null, feedback: null };
  return {
    id,
    parent,
    role,
    text,
    state: 'done',
    time: NOW,
    ...nothing,
    ...more,
  } satisfies Message;
}

export function consultation(id: string, more: Partial<Consultation> = {}): Consultation {
  return {
    id,
    child: null,
    task: 'medkqa',
    title: '宝宝发烧',
    created: NOW,
    updated: NOW,
    intake: null,
    messages: [message('q1', null, '宝宝发烧38.5度'), message('a1', 'q1', '多喝水。')],
    leaf: 'a1',
    ...more,
  };
}

/** What the first edition stored, byte for byte as its code wrote it. */
export const firstEdition = {
  medkqa: {
    schema: 1,
    task: 'medkqa',
    updated: '2026-11-19T10:20:30.400Z',
    turns: [
      { role: 'user', text: '新生儿黄疸一般多久消退？' },
      { role: 'assistant', text: '多数在两周内消退。' },
      { role: 'user', text: '需要晒太阳吗？' },
      { role: 'assistant', text: '' },
    ],
  },
} as const;

export const memory = (): MemoryPlace => new MemoryPlace();
