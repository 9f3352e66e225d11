import { Failure } from '../failure.ts';
import type { Manifest, TensorBlock } from '../format/manifest.ts';
import type { Gpu } from '../gpu/gpu.ts';

export interface UploadProgress {
  readonly bytesDone: number;
  readonly bytesTotal: number;
}

type Place = Pick<TensorBlock, 'file' | 'offset' | 'bytes'>;

interface Upload {
  readonly place: Place;
  readonly write: (bytes: Uint8Array) => void;
}

/** What is to be written where, file by file, so that no more than one is held in memory. */
export class Uploads {
  readonly #byFile = new Map<string, Upload[]>();

  /** `write` receives the block's bytes when its file is read; it may not keep them. */
  plan(place: Place, write: (bytes: Uint8Array) => void): void {
    const uploads = this.#byFile.get(place.file) ?? [];
    uploads.push({ place, write });
    this.#byFile.set(place.file, uploads);
  }

  /**
   * Reads every file once, in the manifest's order, and writes what was planned.
   * @param stop ends it between two files, with the signal's reason
   * @throws Failure BadPackage for a file of another size, DeviceLost, and what `read` throws
   */
  async run(
    gpu: Gpu,
    manifest: Manifest,
    read: (file: string) => Promise<Uint8Array>,
    onProgress: (progress: UploadProgress) => void,
    stop?: AbortSignal,
  ): Promise<void> {
    const files = manifest.files.filter(({ name }) => this.#byFile.has(name));
    const bytesTotal = files.reduce((sum, { bytes }) => sum + bytes, 0);
    let bytesDone = 0;
    onProgress({ bytesDone, bytesTotal });
    for (const file of files) {
      stop?.throwIfAborted();
      const content = await read(file.name);
      if (content.length !== file.bytes) {
        throw new Failure(
          'BadPackage',
          `${file.name} has ${content.length} bytes, not ${file.bytes}`,
        );
      }
      for (const { place, write } of this.#byFile.get(file.name) ?? []) {
        write(content.subarray(place.offset, place.offset + place.bytes));
      }
      // An empty submit carries the writes away, so that copies of them do not pile up.
      gpu.device.queue.submit([]);
      await gpu.idle();
      bytesDone += file.bytes;
      onProgress({ bytesDone, bytesTotal });
    }
  }
}
