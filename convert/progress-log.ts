import { createHash } from 'node:crypto';
import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode } from './files.ts';
import type { Shard, WrittenShard } from './shards.ts';

/**
 * Which files of a package that is being written are whole: a line of JSON each, after a first line
 * with the key of the conversion. A file counts where its bytes are still what the line says.
 */
export class ProgressLog {
  readonly #path: string;
  readonly #written: Map<string, WrittenShard>;

  private constructor(path: string, written: Map<string, WrittenShard>) {
    this.#path = path;
    this.#written = written;
  }

  /** @returns the log of this conversion; null where there is none, or another's */
  static async open(path: string, key: string): Promise<ProgressLog | null> {
    let lines: string[];
    try {
      lines = (await readFile(path, 'utf8')).split('\n');
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return null;
      throw error;
    }
    if (lines.shift() !== key) return null;
    const written = new Map<string, WrittenShard>();
    const whole = lines.filter((line) => {
      const shard = parse(line);
      if (shard !== null) written.set(shard.file.name, shard);
      return shard !== null;
    });
    await writeFile(path, [key, ...whole, ''].join('\n')); // without what was cut short
    return new ProgressLog(path, written);
  }

  static async create(path: string, key: string): Promise<ProgressLog> {
    await writeFile(path, `${key}\n`, { flush: true });
    return new ProgressLog(path, new Map());
  }

  /** What an earlier run wrote of a file, where it is whole. */
  async find(folder: string, { name, bytes }: Shard): Promise<WrittenShard | null> {
    const known = this.#written.get(name);
    if (known === undefined) return null;
    let content: Uint8Array;
    try {
      content = await readFile(join(folder, name));
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return null;
      throw error;
    }
    const same = createHash('sha256').update(content).digest('hex') === known.file.sha256;
    return same && content.length === bytes ? known : null;
  }

  async add(shard: WrittenShard): Promise<void> {
    await appendFile(this.#path, `${JSON.stringify(shard)}\n`);
  }
}

/** A line of ours, or null for one that was cut short. */
function parse(line: string): WrittenShard | null {
  try {
    return JSON.parse(line) as WrittenShard;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
