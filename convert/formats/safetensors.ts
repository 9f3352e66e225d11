import { headerLength, parseHeader } from '../../src/format/safetensors.ts';
import type { ByteSource, StoredTensor } from './stored.ts';

/** The tensors of a safetensors file, none of them read yet. @throws Failure BadCheckpoint */
export async function openSafetensors(
  source: ByteSource,
): Promise<ReadonlyMap<string, StoredTensor>> {
  const length = headerLength(await source.read(0, Math.min(8, source.size)), source.size);
  const start = 8 + length;
  const entries = parseHeader(await source.read(8, length), source.size - start);
  const into = source.readInto?.bind(source);
  return new Map(
    [...entries].map(([name, { dtype, shape, offset, bytes }]): [string, StoredTensor] => {
      const rowBytes = bytes / (shape[0] ?? 1);
      const read = (from: number, to: number) =>
        source.read(start + offset + from * rowBytes, (to - from) * rowBytes);
      const rowsInto =
        into &&
        ((from: number, target: Uint8Array) => into(start + offset + from * rowBytes, target));
      return [name, { dtype, shape, rowBytes: read, rowsInto }];
    }),
  );
}
