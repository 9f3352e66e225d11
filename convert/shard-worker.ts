import { parentPort, workerData } from 'node:worker_threads';
import { failureName } from '../src/failure.ts';
import { errorCode } from './files.ts';
import { openMaker, type MakerOptions, type WorkerAnswer } from './shard-maker.ts';

/** A thread of `ShardPool`: writes the files whose numbers it is sent. */

const port = parentPort;
if (port === null) throw new Error('shard-worker runs in a thread');
const options = workerData as MakerOptions;
const maker = openMaker(options);
// A failure to open is told as the answer to the first number.
maker.catch(() => undefined);

async function answerTo(index: number): Promise<WorkerAnswer> {
  try {
    return { index, written: await (await maker).write(index) };
  } catch (error) {
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const name = failureName(error);
    if (name === 'Bug') return { index, name, message, code: errorCode(error) };
    return { index, name, message: error instanceof Error ? error.message : message, code: null };
  }
}

port.on('message', (index: number) => {
  void answerTo(index).then((answer) => port.postMessage(answer));
});
