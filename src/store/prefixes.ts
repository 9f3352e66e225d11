import type { Place } from './place.ts';

/**
 * Keys and values of fixed prompts, by package: `prefixes/SHA/NAME`, SHA the start of the manifest's
 * hash, as in the package's own folder `models/…@SHA`. All of it can be computed anew.
 */
const PREFIXES = 'prefixes';
const MODELS = 'models';
/** Most that all packages keep together: a small part of what a model takes. */
const MOST_BYTES = 128 << 20;

/** Bytes by name; a name is hexadecimal. */
export interface KeptBytes {
  /** Null for what is not there. */
  read(name: string): Promise<Uint8Array<ArrayBuffer> | null>;
  write(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  remove(name: string): Promise<void>;
}

/**
 * What is kept for one package; what packages that are gone have left is removed at once. No call
 * fails: where the browser refuses (no room, another tab at the same file) `note` hears why, and
 * the next visit computes it.
 */
export async function keptPrefixes(
  place: Place,
  manifestSha: string,
  note: (line: string) => void,
): Promise<KeptBytes> {
  const noted = async <T>(work: () => Promise<T>): Promise<T | null> => {
    try {
      return await work();
    } catch (error) {
      note(`keys and values of the system text are not kept: ${String(error)}`);
      return null;
    }
  };
  const sha = manifestSha.slice(0, 16);
  const path = (name: string): string => `${PREFIXES}/${sha}/${name}`;
  await noted(() => sweep(place, sha));
  return {
    read: (name) => noted(() => place.read(path(name))),
    write: async (name, bytes) => {
      await noted(async () => {
        if (bytes.length > MOST_BYTES) throw new RangeError(`${bytes.length} bytes are too many`);
        if ((await bytesIn(place)) + bytes.length > MOST_BYTES) await place.remove(PREFIXES);
        await place.write(path(name), bytes);
      });
    },
    remove: async (name) => {
      await noted(() => place.remove(path(name)));
    },
  };
}

/** Removes what belongs to no package that is stored, except the one that is being opened. */
async function sweep(place: Place, sha: string): Promise<void> {
  const packages = await place.list(MODELS);
  for (const name of await place.list(PREFIXES)) {
    const stored = name === sha || packages.some((folder) => folder.endsWith(`@${name}`));
    if (!stored) await place.remove(`${PREFIXES}/${name}`);
  }
}

async function bytesIn(place: Place): Promise<number> {
  let sum = 0;
  for (const folder of await place.list(PREFIXES)) {
    for (const name of await place.list(`${PREFIXES}/${folder}`)) {
      sum += (await place.size(`${PREFIXES}/${folder}/${name}`)) ?? 0;
    }
  }
  return sum;
}
