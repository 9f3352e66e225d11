import * as v from 'valibot';
import { sha256 } from '../format/hash.ts';
import type { Place } from './place.ts';

/**
 * What is known of an install beyond its files: where it comes from, and how far the file in hand
 * is. Two files take turns, each with a number and a hash, so that one of them is whole at any
 * moment: a rewrite that is cut off leaves the state before it.
 */

const SLOTS = ['state.0', 'state.1'] as const;

const state = v.strictObject({
  source: v.variant('kind', [
    v.strictObject({ kind: v.literal('url'), url: v.string() }),
    v.strictObject({ kind: v.literal('folder'), name: v.string() }),
  ]),
  /** The person stopped it. */
  paused: v.boolean(),
  part: v.nullable(
    v.strictObject({
      file: v.string(),
      /** So many bytes were flushed; what lies behind them is not believed. */
      bytes: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
      /** What says that the source's file is still the same: an ETag, a date of change. */
      validator: v.nullable(v.string()),
    }),
  ),
});

const slot = v.strictObject({
  turn: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  state,
});

export type InstallState = v.InferOutput<typeof state>;
export type PackageOrigin = InstallState['source'];

/** Names that the journal takes in a package's folder. */
export const isJournal = (name: string): boolean => SLOTS.some((known) => known === name);

/** The journal of one package's folder. */
export class Journal {
  readonly #place: Place;
  readonly #folder: string;
  #turn: number;
  #state: InstallState;

  private constructor(place: Place, folder: string, turn: number, first: InstallState) {
    this.#place = place;
    this.#folder = folder;
    this.#turn = turn;
    this.#state = first;
  }

  /** The newest whole state; null where the folder has none. */
  static async read(place: Place, folder: string): Promise<Journal | null> {
    const [a, b] = await Promise.all(SLOTS.map((name) => readSlot(place, `${folder}/${name}`)));
    const newest = (a?.turn ?? 0) > (b?.turn ?? 0) ? a : b;
    return newest ? new Journal(place, folder, newest.turn, newest.state) : null;
  }

  /** A journal that goes on from what is there, and says nothing until it is written. */
  static async begin(place: Place, folder: string, source: PackageOrigin): Promise<Journal> {
    const old = await Journal.read(place, folder);
    const part = old?.state.part ?? null;
    return new Journal(place, folder, old?.turn ?? 0, { source, paused: false, part });
  }

  get state(): InstallState {
    return this.#state;
  }

  get turn(): number {
    return this.#turn;
  }

  /** Changes the state; it holds once this resolves. */
  async write(change: Partial<InstallState>): Promise<void> {
    this.#state = { ...this.#state, ...change };
    this.#turn += 1;
    const name = SLOTS[this.#turn % 2] ?? SLOTS[0];
    const json = JSON.stringify({ turn: this.#turn, state: this.#state });
    const hash = await sha256(new TextEncoder().encode(json));
    await this.#place.write(
      `${this.#folder}/${name}`,
      new TextEncoder().encode(`${hash}\n${json}`),
    );
  }
}

async function readSlot(
  place: Place,
  path: string,
): Promise<v.InferOutput<typeof slot> | undefined> {
  const bytes = await place.read(path);
  if (bytes === null) return undefined;
  const text = new TextDecoder().decode(bytes);
  const end = text.indexOf('\n');
  const json = text.slice(end + 1);
  if (text.slice(0, Math.max(end, 0)) !== (await sha256(new TextEncoder().encode(json)))) {
    return undefined; // cut off while it was written
  }
  const result = v.safeParse(slot, JSON.parse(json));
  return result.success ? result.output : undefined; // another edition of the app wrote it
}
