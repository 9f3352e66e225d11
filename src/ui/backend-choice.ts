import type { BackendChoice } from '../worker/api.ts';

/** What may compute, as a person chooses it. */
export const backendChoices: readonly BackendChoice[] = ['auto', 'webgpu', 'cpu'];

/**
 * The choice that the page's address makes with `?backend=NAME` for this visit, as tests and
 * measurements do; null where it makes none.
 */
export function backendOf(page: string): BackendChoice | null {
  const name = new URL(page).searchParams.get('backend');
  return backendChoices.find((known) => known === name) ?? null;
}
