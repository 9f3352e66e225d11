import { readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { answerPackage } from './answer-package.ts';
import { JOURNAL_FILE } from './folder-answers.ts';
import { blockReader, readManifest } from './reader.ts';
import { failure, run, type Run } from './testing-run.ts';
import { card, checkpointFiles, folderOf, mergedAdapterFiles, without } from './testing.ts';

let whole: Run;
let bytes: Buffer;
let checkpoint: string;
beforeAll(async () => {
  whole = await run(checkpointFiles(), mergedAdapterFiles());
  bytes = await readFile(join(whole.out, 'manifest.json'));
  checkpoint = await folderOf(checkpointFiles());
});

/** The same package without known answers. */
const silent = async (): Promise<string> =>
  (await run(checkpointFiles(), mergedAdapterFiles(), { knownAnswer: false })).out;
const manifestOf = (folder: string) => readFile(join(folder, 'manifest.json'));
const journalOf = (folder: string) => join(folder, JOURNAL_FILE);

/** Reads blocks and counts them; fails at one of them. */
function reader(folder: string, stopAt = Infinity) {
  const counted = { reads: 0 };
  const read = blockReader(folder);
  const readBlock: typeof read = (block) => {
    if (++counted.reads === stopAt) throw new Error('power cut');
    return read(block);
  };
  return { counted, readBlock };
}

describe('convert known-answer', () => {
  it('gives a package the manifest that convert would have written', async () => {
    const out = await silent();
    expect((await readManifest(out)).knownAnswer).toBeNull();
    expect(await answerPackage({ package: out, checkpoint })).toBe(true);
    expect(await manifestOf(out)).toEqual(bytes);
    expect((await readdir(out)).sort()).toEqual((await readdir(whole.out)).sort());
  });

  it('takes the prompts of the package where it has some, and then changes nothing', async () => {
    expect(await answerPackage({ package: whole.out, checkpoint: null })).toBe(false);
    expect(await manifestOf(whole.out)).toEqual(bytes);
  });

  it('goes on where it was interrupted, with the same result', async () => {
    const all = reader(whole.out);
    await answerPackage({ package: whole.out, checkpoint: null, readBlock: all.readBlock });
    for (const stopAt of [1, 9, Math.floor(all.counted.reads / 2), all.counted.reads - 2]) {
      const out = await silent();
      const cut = reader(out, stopAt);
      const first = answerPackage({ package: out, checkpoint, readBlock: cut.readBlock });
      expect(await failure(first)).toBe('Bug: power cut');
      expect((await readManifest(out)).knownAnswer).toBeNull();
      const rest = reader(out);
      await answerPackage({ package: out, checkpoint, readBlock: rest.readBlock });
      expect(await manifestOf(out)).toEqual(bytes);
      expect(await readdir(out)).not.toContain(JOURNAL_FILE);
      // Embeddings are read again in every pass, and the layer that was cut short.
      if (stopAt > 100) expect(rest.counted.reads).toBeLessThan(all.counted.reads - stopAt / 2);
    }
  });

  it('throws a record away that is not whole, and one that is not what was written', async () => {
    const out = await silent();
    const cut = reader(out, 60);
    await failure(answerPackage({ package: out, checkpoint, readBlock: cut.readBlock }));
    const journal = await readFile(journalOf(out));
    for (const length of [0, 10, 32, 40, 68, 100, journal.length - 1]) {
      await writeFile(journalOf(out), journal.subarray(0, length));
      await answerPackage({ package: out, checkpoint });
      expect(await manifestOf(out)).toEqual(bytes);
    }
    for (const at of [3, 33, 50, 200, journal.length - 5]) {
      const spoilt = new Uint8Array(journal);
      spoilt[at] = (spoilt[at] ?? 0) ^ 0x11;
      await writeFile(journalOf(out), spoilt);
      await answerPackage({ package: out, checkpoint });
      expect(await manifestOf(out)).toEqual(bytes);
    }
  });

  it('begins anew where the journal is of other prompts', async () => {
    const out = await silent();
    const cut = reader(out, 60);
    const other = await folderOf({
      'pediatricsgpt.json': { ...card, known_answer_prompts: { medkqa: '宝' } },
    });
    await failure(answerPackage({ package: out, checkpoint: other, readBlock: cut.readBlock }));
    expect((await stat(journalOf(out))).size).toBeGreaterThan(1000);
    await answerPackage({ package: out, checkpoint });
    expect(await manifestOf(out)).toEqual(bytes);
  });

  it('deletes a signature over what is no longer there', async () => {
    const out = await silent();
    await writeFile(join(out, 'manifest.sig'), 'signed');
    await answerPackage({ package: out, checkpoint });
    expect(await readdir(out)).not.toContain('manifest.sig');
  });

  it('says what it needs', async () => {
    const out = await silent();
    expect(await failure(answerPackage({ package: out, checkpoint: null }))).toMatch(
      /^Usage: .*name a folder with --checkpoint/,
    );
    const mute = await folderOf({
      'pediatricsgpt.json': without<unknown>(card, 'known_answer_prompts'),
    });
    expect(await failure(answerPackage({ package: out, checkpoint: mute }))).toContain(
      'known_answer_prompts: none for a task',
    );
    await truncate(join(out, 'shard-00000.bin'), 1000);
    expect(await failure(answerPackage({ package: out, checkpoint }))).toMatch(
      /^ShardTruncated: .*shard-00000\.bin: 1000 bytes/,
    );
  });
});
