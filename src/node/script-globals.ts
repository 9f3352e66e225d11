import { createRequire } from 'node:module';

/** XGrammar's build is an old-style script: in Node it looks for these. Imported before it. */
Object.assign(globalThis, {
  require: createRequire(import.meta.url),
  __filename: import.meta.filename,
  __dirname: import.meta.dirname,
});
