import { Failure } from '../failure.ts';
import { EngineLock } from '../worker/engine-lock.ts';
import { holdLife } from '../worker/life.ts';
import { Pipe } from '../worker/pipe.ts';
import type {
  PeerApi,
  PeerCheck,
  PeerFolder,
  PeerModel,
  SideModel,
  SideProgress,
  SideRequest,
  SideResult,
} from './api.ts';
import { checkFolder } from './check.ts';
import { serveOnly, type Surroundings } from './served.ts';
import { type MakeMlcEngine, PeerSession } from './session.ts';

/** A callback of the page: across the border it answers with a promise. */
type Listener<T> = (event: T) => void | Promise<void>;

/** The worker's side of PeerApi: one folder, one model, one answer. */
export class PeerHost implements PeerApi {
  readonly #where: Surroundings;
  readonly #loadRuntime: () => Promise<MakeMlcEngine>;
  /** Imported models obey the rule that all do: one model per browser. */
  readonly #lock = new EngineLock(() => this.close());
  #session: PeerSession | null = null;
  #life: Promise<string> | null = null;
  #answered: Promise<unknown> = Promise.resolve();

  /** `loadRuntime` brings in web-llm; it is called once everything else is in place. */
  constructor(where: Surroundings, loadRuntime: () => Promise<MakeMlcEngine>) {
    this.#where = where;
    this.#loadRuntime = loadRuntime;
  }

  async check(folder: PeerFolder, onProgress: Listener<number>): Promise<PeerCheck> {
    const pipe = new Pipe(onProgress, (_, newer) => newer);
    const checked = await checkFolder(folder, await adapterHere(), (part) => pipe.push(part));
    await pipe.flush();
    return checked;
  }

  async open(model: PeerModel, onProgress: Listener<SideProgress>): Promise<SideModel> {
    const adapter = await adapterHere();
    if (adapter === null) throw new Failure('NoWebGpu', 'no WebGPU adapter');
    await this.#lock.take(false);
    let make: MakeMlcEngine;
    try {
      make = await this.#loadRuntime();
    } catch (cause) {
      throw new Failure('PartMissing', 'the runtime for imported models did not come', { cause });
    }
    const pipe = new Pipe(onProgress, (older, newer) =>
      older.phase === newer.phase ? newer : null,
    );
    // From here on nothing in this worker can reach anything but these files.
    const served = serveOnly(model, this.#where);
    const { vendor, architecture, description } = adapter.info;
    const said = [...new Set([vendor, architecture, description])].filter((part) => part !== '');
    try {
      this.#session = await PeerSession.open(make, model, served, said.join(' '), (progress) =>
        pipe.push(progress),
      );
    } catch (error) {
      // eslint-disable-next-line no-console -- what the library lacks, for whoever compiled it
      console.warn(String(error));
      throw error;
    }
    await pipe.flush();
    return this.#session.facts;
  }

  async generate(request: SideRequest, onPiece: Listener<string>): Promise<SideResult> {
    const session = this.#session;
    if (session === null) throw new Failure('NoModel', 'no imported model is open');
    const pipe = new Pipe(onPiece, (older, newer) => older + newer);
    const answering = session.generate(request, (piece) => pipe.push(piece));
    this.#answered = answering.catch(() => undefined);
    const result = await answering;
    await pipe.flush();
    return result;
  }

  life(): Promise<string> {
    return (this.#life ??= holdLife());
  }

  async stop(): Promise<void> {
    await this.#session?.stop();
  }

  async close(): Promise<void> {
    const session = this.#session;
    this.#session = null;
    try {
      await session?.stop();
      await this.#answered;
      await session?.close();
    } finally {
      this.#lock.release();
    }
  }
}

/** The GPU that web-llm would choose; null where there is none. */
async function adapterHere(): Promise<GPUAdapter | null> {
  const gpu: GPU | undefined = navigator.gpu;
  return (await gpu?.requestAdapter({ powerPreference: 'high-performance' })) ?? null;
}
