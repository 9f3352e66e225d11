import '../offline/close-boundary.ts';
import { expose } from 'comlink';
import { PeerHost } from './host.ts';
import type { MakeMlcEngine } from './session.ts';

expose(
  new PeerHost(globalThis, async () => {
    const { MLCEngine } = await import('./web-llm.ts');
    const make: MakeMlcEngine = (config) => new MLCEngine(config);
    return make;
  }),
);
