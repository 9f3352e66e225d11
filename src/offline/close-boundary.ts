import { closeBoundary } from './boundary.ts';

closeBoundary(globalThis);
