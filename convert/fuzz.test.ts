import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { attempt, readers, seeded } from './fuzzing.ts';

/** FUZZ_SEED and FUZZ_CASES look further; what they find goes into fixtures/finds. */
const seed = Number(process.env['FUZZ_SEED'] ?? 1);
const factor = Number(process.env['FUZZ_CASES'] ?? 100_000) / 100_000;
/** No file of a few kilobytes takes as long, on a busy machine either. */
const LONGEST_MS = 5000;

const counts = {
  safetensors: 38_000,
  'PyTorch file': 14_000,
  GGUF: 14_000,
  'SentencePiece model': 3_000,
  'index.json': 18_000,
  'config.json': 10_000,
  manifest: 6_000,
};

describe('a reader of files from outside', () => {
  it.each(Object.entries(counts))(
    'reads a %s that is nearly right, or says what is wrong with it (%i cases)',
    async (name, count) => {
      const reader = readers[name];
      if (reader === undefined) throw new Error(`no reader ${name}`);
      const accepted = { yes: 0, no: 0 };
      for (let i = 0; i < count * factor; i++) {
        const bytes = reader.make(seeded(seed * 2 ** 20 + i));
        const start = performance.now();
        try {
          accepted[(await attempt(reader, bytes)) ? 'yes' : 'no'] += 1;
        } catch (cause) {
          const file = Buffer.from(bytes).toString('base64');
          throw new Error(`seed ${seed}, case ${i}: ${String(cause)}: ${file}`, { cause });
        }
        if (performance.now() - start > LONGEST_MS) {
          throw new Error(`seed ${seed}, case ${i} takes too long`);
        }
      }
      // Both happen often, or the files are not nearly right.
      expect(Math.min(accepted.yes, accepted.no)).toBeGreaterThan(count * factor * 0.01);
    },
  );
});

describe('what was found once', () => {
  const folder = new URL('fixtures/finds/', import.meta.url);
  it.each(readdirSync(folder))('%s is read or refused in words', async (name) => {
    const [kind = ''] = name.split('--');
    const reader = Object.entries(readers).find(([one]) => one.replaceAll(' ', '-') === kind)?.[1];
    if (reader === undefined) throw new Error(`no reader for ${name}`);
    await attempt(reader, new Uint8Array(readFileSync(new URL(name, folder))));
  });
});
