import { type FailureName, failureName } from '../failure.ts';

/** A failure as the page shows it. */
export interface Trouble {
  readonly name: FailureName | 'Bug';
  /** Identifies a bug in a report: the same mistake has the same code. */
  readonly code: string;
}

export type Remedy = 'retry' | 'take-over' | 'reload' | 'new-conversation' | 'none';

/** The one next action that makes sense after each failure. */
const remedies: Readonly<Record<FailureName | 'Bug', Remedy>> = {
  NoWebGpu: 'reload',
  DeviceLost: 'reload',
  WorkerLost: 'retry',
  WorkerHung: 'retry',
  PartMissing: 'reload',
  DeviceLimit: 'retry',
  CpuLimit: 'retry',
  WrongNumbers: 'retry',
  BadManifest: 'reload',
  BadTokenizer: 'retry',
  BadCheckpoint: 'none',
  BadRecipe: 'none',
  BadSignature: 'retry',
  BadPackage: 'retry',
  BadLibrary: 'none',
  NotFound: 'retry',
  NotAShard: 'retry',
  ShardTruncated: 'retry',
  ShardCorrupt: 'retry',
  ServerError: 'retry',
  Stalled: 'retry',
  OtherOrigin: 'none',
  BadFolder: 'none',
  Offline: 'retry',
  StorageFull: 'retry',
  StorageBlocked: 'retry',
  StorageBroken: 'reload',
  StorageCleared: 'reload',
  WrongPassphrase: 'none',
  RecordsLocked: 'none',
  RecordsNewer: 'reload',
  RecordsChanged: 'reload',
  RecordDamaged: 'none',
  BadImport: 'none',
  NewerImport: 'none',
  PromptTooLong: 'new-conversation',
  EmptyPrompt: 'none',
  NotRouted: 'none',
  UnknownTask: 'none',
  OtherWindow: 'take-over',
  NoModel: 'none',
  Busy: 'retry',
  Cancelled: 'retry',
  Usage: 'none',
  Bug: 'retry',
};

export function remedyFor(name: FailureName | 'Bug'): Remedy {
  return remedies[name];
}

/** FNV-1a over the UTF-16 units: short, stable, and no secret in it. */
function shortCode(text: string): string {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0;
  }
  return `B-${(hash >>> 8).toString(16).toUpperCase().padStart(6, '0')}`;
}

/** Names an error for the page; the details of a bug stay in the console. */
export function troubleOf(error: unknown): Trouble {
  const name = failureName(error);
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  const code = shortCode(text);
  // eslint-disable-next-line no-console -- the only place where the details of a bug are kept
  if (name === 'Bug') console.error(code, error);
  return { name, code };
}
