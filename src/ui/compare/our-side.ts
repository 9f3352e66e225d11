import type { SideEngine } from '../../peer/api.ts';
import { aborted, inTime } from '../../peer/client.ts';
import { type Engine, startEngine } from '../../worker/client.ts';
import type { TaskName } from '../tasks.ts';
import { loadStep } from '../watch.svelte.ts';

/** A package of this device, what shall compute it, and for which task. */
export interface OurChoice {
  readonly address: string;
  readonly backend: 'webgpu' | 'cpu';
  readonly task: TaskName;
  /** The plainest kernels, where the page died before. */
  readonly careful: boolean;
}

type OurEngine = Pick<Engine, 'open' | 'generate' | 'stop' | 'close' | 'renew' | 'end'>;

/** One run of our engine, in a worker of its own. */
export function startOurs(
  { address, backend, task, careful }: OurChoice,
  start: () => OurEngine = startEngine,
): SideEngine {
  const engine = start();
  let ending: Promise<boolean> | null = null;
  const endNow = (): Promise<boolean> => (ending ??= engine.renew());
  return {
    async load(onProgress, signal) {
      const opening = engine.open(
        address,
        (progress) => {
          const { phase, bytesDone, bytesTotal } = progress;
          onProgress({
            phase,
            part: bytesTotal > 0 ? bytesDone / bytesTotal : null,
            ...(loadStep(progress) === 'wait' && { waits: true }),
          });
        },
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
    async generate({ question, system, sampling, seed }, onPiece, signal, onSign) {
      const stop = (): void => {
        if (ending !== null) return; // it would start another worker
        engine.stop().catch(() => undefined); // the answer tells
      };
      signal.addEventListener('abort', stop, { once: true });
      const turns = [{ role: 'user', text: question }] as const;
      const more = system === '' ? {} : { system };
      try {
        const answering = engine.generate({ task, turns, sampling, seed, ...more }, (event) => {
          if (event.kind === 'piece') onPiece(event.text);
          else onSign(event);
        });
        if (signal.aborted) stop();
        return await answering;
      } finally {
        signal.removeEventListener('abort', stop);
      }
    },
    end: () => void endNow(),
    async dispose() {
      const isOver = ending === null && (await inTime(engine.close()));
      if (!isOver) await endNow();
      // What a worker that broke still held goes with it.
      engine.end();
    },
  };
}
