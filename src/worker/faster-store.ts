import type { FasterStore } from '../engine/faster.ts';
import type { KeptText } from '../store/measurements.ts';

/** Packages whose weights may lie in memory twice while both backends are measured. */
const MOST_BYTES = 256e6;
/** Winners that are remembered; the oldest goes first. */
const MOST_KEYS = 16;

/** What the browser says of itself. */
export interface DeviceHints {
  readonly userAgent: string;
  readonly userAgentData?: { readonly mobile: boolean };
}

/** A phone or a tablet: there the CPU may well be the faster. */
export function isHandheld({ userAgent, userAgentData }: DeviceHints): boolean {
  return userAgentData?.mobile ?? /Android|iPhone|iPad|Mobile/.test(userAgent);
}

/** Whether GPU and CPU are worth measuring against each other for this package. */
export function worthMeasuring(
  device: DeviceHints,
  { files }: { readonly files: readonly { readonly bytes: number }[] },
): boolean {
  return isHandheld(device) && files.reduce((sum, { bytes }) => sum + bytes, 0) <= MOST_BYTES;
}

/** Winners by key, in one JSON text. @param key all that the times depend on */
export function fasterStore(kept: KeptText, key: string): FasterStore {
  return {
    get: async () => (await winners(kept)).find(([one]) => one === key)?.[1] ?? null,
    set: async (winner) => {
      const others = (await winners(kept)).filter(([one]) => one !== key);
      const entries = [...others, [key, winner] as const].slice(-MOST_KEYS);
      await kept.write(JSON.stringify(Object.fromEntries(entries)));
    },
  };
}

/** A text that is none of ours is measured anew and written over: nothing in it cannot be lost. */
async function winners({ read }: KeptText): Promise<(readonly [string, 'wgsl' | 'onnx'])[]> {
  const text = await read();
  if (text === null) return [];
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return [];
    throw error;
  }
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).filter(
    (entry): entry is [string, 'wgsl' | 'onnx'] => entry[1] === 'wgsl' || entry[1] === 'onnx',
  );
}
