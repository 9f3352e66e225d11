import type { Manifest } from '../format/manifest.ts';
import type { ModelInfo } from '../worker/api.ts';
import type { Checked } from './recovery.ts';

/** What a person may know of a loaded package. `manifestBytes` is the size of manifest.json. */
export function describe(
  manifest: Manifest,
  manifestBytes: number,
  { backend, selfTest, fellBack = [] }: Checked,
): Omit<ModelInfo, 'fetched'> {
  const { id, name, licence, intendedUse, limits, config, tasks, sampling } = manifest;
  const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
  return {
    id,
    name,
    licence,
    intendedUse,
    limits,
    bytes: manifest.files.reduce((sum, file) => sum + file.bytes, manifestBytes),
    parameters: manifest.tensors.reduce((sum, tensor) => sum + size(tensor.shape), 0),
    capacity: config.capacity,
    tasks: tasks.map((task) => ({ id: task.id, title: task.title })),
    adapterMode: manifest.adapter?.mode ?? 'none',
    sampling,
    backend: backend.name,
    variant: backend.variant,
    adapter: backend.adapterName,
    selfTest,
    fellBack,
    data: manifest.provenance.data,
  };
}
