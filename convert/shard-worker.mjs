/** Lets Node 20 run shard-worker.ts in a thread: tsx registers itself in the main thread only. */
import { register } from 'tsx/esm/api';

register();
await import('./shard-worker.ts');
