import type { DeviceReport } from '../../worker/api.ts';

/** What a browser tells about the device it runs on: hints, some of them rounded on purpose. */
export interface BrowserFacts {
  readonly agent: string;
  readonly cores: number | null;
  readonly memoryGigabytes: number | null;
  readonly storageBytes: number | null;
  /** Apps whose own browser has no WebGPU, no service worker, or forgets its storage. */
  readonly isInApp: boolean;
}

interface Navigating {
  readonly userAgent: string;
  readonly hardwareConcurrency?: number;
  readonly deviceMemory?: number;
  readonly storage?: { estimate(): Promise<StorageEstimate> };
}

const inApp = /MicroMessenger|QQ\/|DingTalk|Weibo|AlipayClient|aweme|FBA[NV]|Instagram|Line\//i;

export async function browserFacts(navigator: Navigating): Promise<BrowserFacts> {
  const { userAgent, hardwareConcurrency, deviceMemory, storage } = navigator;
  const usage = storage === undefined ? undefined : (await storage.estimate()).usage;
  return {
    agent: userAgent,
    cores: hardwareConcurrency ?? null,
    memoryGigabytes: deviceMemory ?? null,
    storageBytes: usage ?? null,
    isInApp: inApp.test(userAgent),
  };
}

/** Lines of `name: value`, for a technician; nothing that a person typed is among them. */
export function reportText(rows: readonly { name: string; value: string }[]): string {
  return rows.map(({ name, value }) => `${name}: ${value}`).join('\n');
}

/** The adapter's name, or null where there is none. */
export const adapterName = (device: DeviceReport | null): string | null =>
  device?.webgpu === true ? device.adapter : null;
