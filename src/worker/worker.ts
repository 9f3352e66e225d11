import '../offline/close-boundary.ts';
import { expose } from 'comlink';
import { Host } from './host.ts';
import { Models } from './models.ts';

const engine = new Host();
expose({ engine, models: new Models(engine) });
