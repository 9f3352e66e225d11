import type { KnownAnswer } from '../src/format/manifest.ts';

/** PLACEHOLDER: measured below. */
export function tolerance(_tasks: KnownAnswer['tasks']): KnownAnswer['tolerance'] {
  return { f32: 0.02, f16: 0.15 };
}
