import * as v from 'valibot';
import type { BackendChoice, SamplingSettings } from '../worker/api.ts';
import { backendChoices } from './backend-choice.ts';
import { recall, recallJson, remember } from './memory.ts';

const KEY = 'settings';
const BACKEND_KEY = 'backend';

/** The settings a person may change, with the range that makes sense of each. */
export const ranges = {
  temperature: { min: 0, max: 1.5, step: 0.05 },
  topP: { min: 0.05, max: 1, step: 0.05 },
  topK: { min: 0, max: 200, step: 1 },
  repetitionPenalty: { min: 1, max: 2, step: 0.05 },
  maxTokens: { min: 16, max: 1024, step: 1 },
  seed: { min: 0, max: 4294967295, step: 1 },
} as const;

export const settingNames = [
  'temperature',
  'topP',
  'topK',
  'repetitionPenalty',
  'maxTokens',
] as const satisfies readonly (keyof SamplingSettings)[];
/** Characters of a system text: the model's memory is small. */
export const LONGEST_SYSTEM = 500;
export type SettingName = (typeof settingNames)[number];

/** What the code released with the paper sets (hparams/generating_args.py), beside ours. */
export const publishedDefaults: Readonly<Record<SettingName, number>> = {
  temperature: 0.95,
  topP: 0.7,
  topK: 50,
  repetitionPenalty: 1,
  maxTokens: 512,
};

/** What may have been kept; anything else is as if nothing was. */
const keptShape = v.object({
  temperature: v.nullable(v.number()),
  // Earlier editions had no such setting.
  topP: v.optional(v.nullable(v.number()), null),
  topK: v.optional(v.nullable(v.number()), null),
  repetitionPenalty: v.nullable(v.number()),
  maxTokens: v.nullable(v.number()),
  system: v.optional(v.string(), ''),
  seedIsFixed: v.boolean(),
  seed: v.number(),
});

/** Nearest value of the range; null where it is no number. */
function within(name: keyof typeof ranges, value: number | null): number | null {
  if (value === null || !Number.isFinite(value)) return null;
  const { min, max, step } = ranges[name];
  const clamped = Math.min(max, Math.max(min, value));
  return step === 1 ? Math.round(clamped) : clamped;
}

/** How answers are sampled: the package's defaults, and what a person set instead. */
export class Settings {
  changed = $state<Record<SettingName, number | null>>({
    temperature: null,
    topP: null,
    topK: null,
    repetitionPenalty: null,
    maxTokens: null,
  });
  /** A system text in the place of the package's own; '' for that one. */
  system = $state('');
  seedIsFixed = $state(false);
  seed = $state(1);
  backend = $state<BackendChoice>('auto');
  readonly #random: () => number;

  /** `backend`: the choice of this visit, before the one that was kept. */
  constructor(
    backend: BackendChoice | null = null,
    random: () => number = () => crypto.getRandomValues(new Uint32Array(1))[0] ?? 0,
  ) {
    this.#random = random;
    const chosen = backend ?? recall(BACKEND_KEY);
    this.backend = backendChoices.find((known) => known === chosen) ?? 'auto';
    const kept = v.safeParse(keptShape, recallJson(KEY));
    if (!kept.success) return;
    for (const name of settingNames) this.changed[name] = within(name, kept.output[name]);
    this.system = kept.output.system.slice(0, LONGEST_SYSTEM);
    this.seedIsFixed = kept.output.seedIsFixed;
    this.seed = within('seed', kept.output.seed) ?? 1;
  }

  /** Sets one value, clamped to its range; what is no number is left out. */
  set(name: SettingName, value: number): void {
    const next = within(name, value);
    if (next === null) return;
    this.changed[name] = next;
    this.#keep();
  }

  setSystem(text: string): void {
    this.system = text.trim().slice(0, LONGEST_SYSTEM);
    this.#keep();
  }

  setSeed(isFixed: boolean, seed = this.seed): void {
    this.seedIsFixed = isFixed;
    this.seed = within('seed', seed) ?? this.seed;
    this.#keep();
  }

  /** Chooses what computes; it is kept beyond this visit. */
  setBackend(backend: BackendChoice): void {
    this.backend = backend;
    remember(BACKEND_KEY, backend === 'auto' ? null : backend);
  }

  /** Back to what the package says; what computes stays. */
  reset(): void {
    for (const name of settingNames) this.changed[name] = null;
    this.system = '';
    this.seedIsFixed = false;
    this.seed = 1;
    remember(KEY, null);
  }

  /** The sampling to ask for, on top of the package's own. */
  sampling(defaults: SamplingSettings): SamplingSettings {
    const chosen = settingNames.map((name) => [name, this.changed[name] ?? defaults[name]]);
    return { ...defaults, ...(Object.fromEntries(chosen) as Record<SettingName, number>) };
  }

  nextSeed(): number {
    return this.seedIsFixed ? this.seed : this.#random();
  }

  #keep(): void {
    const { system, seedIsFixed, seed } = this;
    const kept = { ...$state.snapshot(this.changed), system, seedIsFixed, seed };
    remember(KEY, JSON.stringify(kept));
  }
}
