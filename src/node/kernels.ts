import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { calibrate, type Calibration } from '../gpu/calibrate.ts';
import { JsonCalibrations } from '../gpu/calibration-store.ts';
import type { GpuDevice } from '../gpu/device.ts';
import type { ModelConfig } from '../format/manifest.ts';
import { trialShapeOf } from '../model/config.ts';

/** Where measurements of this machine's GPUs are kept. */
export function kernelsFile(env: NodeJS.ProcessEnv = process.env): string {
  const cache = env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
  return join(cache, 'pediatricsgpt-web', 'kernels.json');
}

export interface DiskCalibration {
  /** Hears what a person should know: that the file cannot be written. */
  readonly note: (line: string) => void;
  readonly allowInt8?: boolean;
  readonly file?: string;
}

/**
 * Chooses kernels for a GPU and a model by measurement: about a second the first time.
 * @throws as `calibrate`; Error for a file that is there and cannot be read
 */
export function calibrateOnDisk(
  gpu: GpuDevice,
  config: ModelConfig,
  { note, allowInt8 = false, file = kernelsFile() }: DiskCalibration,
): Promise<Calibration> {
  const read = async (): Promise<string | null> => {
    try {
      return await readFile(file, 'utf8');
    } catch (error) {
      if (isMissing(error)) return null;
      throw error;
    }
  };
  const write = async (text: string): Promise<void> => {
    const part = `${file}.${process.pid}.part`;
    try {
      await mkdir(dirname(file), { recursive: true });
      await writeFile(part, text);
      await rename(part, file); // whole or not at all, also where two commands run at once
    } catch (error) {
      // The answer does not depend on it; the next command measures again.
      const why = error instanceof Error ? error.message : String(error);
      note(`cannot keep the measurements of this GPU: ${why}`);
    }
  };
  const store = new JsonCalibrations(read, write);
  return calibrate(gpu, { shape: trialShapeOf(config), store, allowInt8 });
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
