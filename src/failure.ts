/**
 * The closed list of expected failures: things a person can be told about and act on.
 * Everything else is a bug and is shown as one. The name is the code, because only `name`,
 * `message` and `stack` of an error cross the worker border.
 */
const names = [
  'NoWebGpu', // no WebGPU adapter: an old browser, a blocked or missing GPU driver
  'DeviceLost', // the GPU went away while we used it
  'WorkerLost', // the worker that holds the model ended by itself: out of memory, or killed
  'WorkerHung', // the worker did not move, and the person ended it
  'PartMissing', // a part of the app that is fetched when it is needed did not come
  'DeviceLimit', // the GPU cannot hold what the model needs
  'CpuLimit', // what ONNX Runtime on the CPU cannot hold or run
  'WrongNumbers', // the known-answer test did not come out as recorded
  'BadManifest', // a manifest that does not follow the format
  'BadTokenizer', // a tokenizer.json outside the strict subset
  'BadCheckpoint', // a checkpoint or adapter that convert cannot read
  'BadRecipe', // a recipe for rounding that makes no sense or no package
  'BadSignature', // a manifest that none of the keys of this edition of the app has signed
  'BadPackage', // a package whose files do not fit its manifest
  'BadLibrary', // the library of an imported model, which its runtime cannot run
  'NotFound', // a file that the server or the folder does not have
  'NotAShard', // a web page came where a model file was asked for
  'ShardTruncated', // fewer or more bytes than the manifest says
  'ShardCorrupt', // the right number of bytes, the wrong hash
  'ServerError', // the server answered that it cannot: 5xx, too many requests
  'Stalled', // not a byte came for a long time
  'OtherOrigin', // an address of another site: the page may only speak to its own
  'BadFolder', // a folder that holds no package, or changed while it was read
  'Offline', // the network did not answer and the file is not stored here
  'StorageFull', // the browser, or the disk, gives no more room
  'StorageBlocked', // the browser gives no storage at all (private window, policy)
  'StorageBroken', // the browser's storage failed: a bad disk, damaged files
  'StorageCleared', // what this site keeps was cleared while the page was open
  'WrongPassphrase', // the passphrase does not open the records
  'RecordsLocked', // records that are encrypted, and nobody has given the passphrase
  'RecordsNewer', // records that a newer edition of the app wrote: read only here
  'RecordsChanged', // another window locked, moved or deleted all records
  'RecordDamaged', // a record that does not follow its schema, or was altered
  'BadImport', // a file that is no export of ours, or too large
  'NewerImport', // an export that a newer edition of the app wrote
  'PromptTooLong', // the conversation does not fit the model's memory
  'EmptyPrompt', // nothing was typed
  'NotRouted', // routed mode asked of a merged package
  'UnknownTask', // a task that this package does not have
  'OtherWindow', // another window of this browser uses the model: one at a time
  'NoModel', // the chosen model is not on this device
  'Busy', // one answer at a time
  'Cancelled', // the person pressed stop
  'Usage', // a command line that does not make sense
] as const;

export type FailureName = (typeof names)[number];

/** An expected failure; `message` is for a developer, the page words it for a person by `name`. */
export class Failure extends Error {
  override readonly name: FailureName;

  constructor(name: FailureName, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = name;
  }
}

/** The name of an expected failure, or 'Bug' for anything else. */
export function failureName(error: unknown): FailureName | 'Bug' {
  const name = error instanceof Error ? error.name : '';
  return names.find((known) => known === name) ?? 'Bug';
}

/** What browsers, and Vite, say of a part that did not come; what fails while it runs says other things. */
const notCome = /dynamically imported module|importing a module script|unable to preload/i;

/**
 * A part of the app that is fetched when it is needed.
 * @throws Failure PartMissing where it does not come; what the part itself throws while it starts
 */
export async function partOfApp<T>(coming: Promise<T>): Promise<T> {
  try {
    return await coming;
  } catch (cause) {
    if (!notCome.test(String(cause))) throw cause;
    throw new Failure('PartMissing', String(cause), { cause });
  }
}

/** What an error of a worker means: without a word of why, its script did not come. */
export function startFailure(message: string | undefined): Error {
  return message === undefined || message === ''
    ? new Failure('PartMissing', 'the worker did not start')
    : new Error(message);
}

/** Every name, for tables that must say something about each. */
export const failureNames: readonly FailureName[] = names;
