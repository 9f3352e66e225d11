import '../offline/close-boundary.ts';
import { expose } from 'comlink';
import { Host } from './host.ts';
import { holdLife } from './life.ts';
import { Models } from './models.ts';

const engine = new Host();
const life = holdLife();
life.catch(() => undefined); // told to the page, which asks for it first
expose({ engine, models: new Models(engine), life: () => life });
