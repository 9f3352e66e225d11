import { parseManifest } from '../../format/layout.ts';
import type { Manifest } from '../../format/manifest.ts';

/** The package and the models beside it, as the runner's server gives them. */

export async function fetchBytes(name: string): Promise<Uint8Array<ArrayBuffer>> {
  const response = await fetch(`/package/${name}`);
  if (!response.ok) throw new Error(`/package/${name}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

export async function fetchManifest(): Promise<Manifest> {
  return parseManifest(await fetchBytes('manifest.json'));
}

/** The base model alone. */
export function withoutAdapter(manifest: Manifest): Manifest {
  const isBase = (name: string): boolean => !name.startsWith('adapter');
  return {
    ...manifest,
    adapter: null,
    files: manifest.files.filter(({ name }) => isBase(name)),
    tensors: manifest.tensors.filter(({ name }) => isBase(name)),
  };
}
