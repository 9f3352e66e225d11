import { Worker } from 'node:worker_threads';
import { Failure } from '../src/failure.ts';
import { stopIfAborted } from './files.ts';
import { openMaker, type MakerOptions, type WorkerAnswer } from './shard-maker.ts';
import type { WrittenShard } from './shards.ts';

/** A thread takes half a second to start: below so many files for each there are fewer threads. */
const FILES_PER_THREAD = 4;

interface PoolOptions extends MakerOptions {
  readonly threads: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Writes files of a base in threads, or in this one where there are few.
 * @param indices the files' numbers in the plan
 * @param onWritten called after each, in any order
 * @throws Failure Cancelled, StorageFull, BadCheckpoint: the first that happened
 */
export async function writeInThreads(
  indices: readonly number[],
  options: PoolOptions,
  onWritten: (index: number, written: WrittenShard) => Promise<void>,
): Promise<void> {
  const { threads, signal, ...maker } = options;
  const queue = [...indices];
  const count = Math.min(threads, Math.floor(queue.length / FILES_PER_THREAD));
  if (count < 2) return writeHere(queue, maker, signal, onWritten);
  const workers = Array.from(
    { length: count },
    () =>
      new Worker(new URL('./shard-worker.mjs', import.meta.url), {
        workerData: maker,
        execArgv: [],
      }),
  );
  const run = async (worker: Worker): Promise<void> => {
    for (let index = queue.shift(); index !== undefined; index = queue.shift()) {
      stopIfAborted(signal);
      await onWritten(index, await ask(worker, index, signal));
    }
  };
  try {
    await Promise.all(workers.map(run));
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

async function writeHere(
  indices: readonly number[],
  options: MakerOptions,
  signal: AbortSignal | undefined,
  onWritten: (index: number, written: WrittenShard) => Promise<void>,
): Promise<void> {
  if (indices.length === 0) return;
  const maker = await openMaker(options);
  try {
    for (const index of indices) {
      stopIfAborted(signal);
      await onWritten(index, await maker.write(index));
    }
  } finally {
    await maker.close();
  }
}

/** Sends a number to a thread and waits for what it says. */
function ask(
  worker: Worker,
  index: number,
  signal: AbortSignal | undefined,
): Promise<WrittenShard> {
  return new Promise((resolve, reject) => {
    const onMessage = (answer: WorkerAnswer) =>
      settle(() => ('written' in answer ? resolve(answer.written) : reject(failureOf(answer))));
    const onError = (error: unknown) =>
      settle(() => reject(error instanceof Error ? error : new Error(String(error))));
    const onExit = (code: number) => settle(() => reject(new Error(`a thread ended with ${code}`)));
    const onAbort = () => settle(() => reject(new Failure('Cancelled', 'stopped before the end')));
    // Not removeAllListeners: that takes away Node's own, and no message would come any more.
    const settle = (end: () => void) => {
      worker.off('message', onMessage).off('error', onError).off('exit', onExit);
      signal?.removeEventListener('abort', onAbort);
      end();
    };
    worker.on('message', onMessage).on('error', onError).on('exit', onExit);
    signal?.addEventListener('abort', onAbort);
    worker.postMessage(index);
  });
}

function failureOf({ name, message, code }: Exclude<WorkerAnswer, { written: unknown }>): Error {
  if (name !== 'Bug') return new Failure(name, message);
  return Object.assign(new Error(message), code === null ? {} : { code });
}
