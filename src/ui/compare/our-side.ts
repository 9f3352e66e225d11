import type { SideEngine } from '../../peer/api.ts';
import { aborted } from '../../peer/client.ts';
import { type Engine, startEngine } from '../../worker/client.ts';
import type { TaskName } from '../tasks.ts';

/** A package of this device, what shall compute it, and for which task. */
export interface OurChoice {
  readonly address: string;
  readonly backend: 'webgpu' | 'cpu';
  readonly task: TaskName;
  /** The plainest kernels, where the page died before. */
  readonly careful: boolean;
}

/** So long a worker has to let go of its model. */
const COURTESY_MS = 3000;

type OurEngine = Pick<Engine, 'open' | 'generate' | 'stop' | 'close' | 'end'>;

/** One run of our engine, in a worker of its own. */
export function startOurs(
  { address, backend, task, careful }: OurChoice,
  start: () => OurEngine = startEngine,
): SideEngine {
  const engine = start();
  return {
    async load(onProgress, signal) {
      const opening = engine.open(
        address,
        ({ phase, bytesDone, bytesTotal }) =>
          onProgress({ phase, part: bytesTotal > 0 ? bytesDone / bytesTotal : null }),
        { backend, careful },
      );
      opening.catch(() => undefined); // told below, or nobody waits for it any more
      const info = await Promise.race([opening, aborted(signal)]);
      return {
        model: info.id,
        backend: info.backend,
        variant: info.variant,
        adapter: info.adapter,
      };
    },
    async generate({ question, system, sampling, seed }, onPiece, signal) {
      const stop = (): void => void engine.stop().catch(() => undefined); // the answer tells
      signal.addEventListener('abort', stop, { once: true });
      const turns = [{ role: 'user', text: question }] as const;
      const more = system === '' ? {} : { system };
      try {
        const answering = engine.generate({ task, turns, sampling, seed, ...more }, (event) => {
          if (event.kind === 'piece') onPiece(event.text);
        });
        if (signal.aborted) stop();
        return await answering;
      } finally {
        signal.removeEventListener('abort', stop);
      }
    },
    async dispose() {
      const patience = new Promise((resolve) => setTimeout(resolve, COURTESY_MS));
      // What a worker that broke still held goes with it.
      await Promise.race([engine.close().catch(() => undefined), patience]);
      engine.end();
    },
  };
}
