import type { FasterStore } from '../engine/faster.ts';
import { KeptMap } from '../gpu/kept-map.ts';
import type { KeptText } from '../store/measurements.ts';

/** Packages whose weights may lie in memory twice while both backends are measured. */
const MOST_BYTES = 256e6;

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
export function fasterStore({ read, write }: KeptText, key: string): FasterStore {
  const winners = new KeptMap(read, write, isBackend);
  return { get: () => winners.get(key), set: (winner) => winners.set(key, winner) };
}

function isBackend(value: unknown): value is 'wgsl' | 'onnx' {
  return value === 'wgsl' || value === 'onnx';
}
