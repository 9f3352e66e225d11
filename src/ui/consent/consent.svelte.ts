import * as v from 'valibot';
import { recallJson, remember } from '../memory.ts';

/** Who has agreed that a child's details are kept on this device, and when. */

const KEY = 'consent';
/** Goes up when what is agreed to changes: then everybody is asked again. */
export const CONSENT_VERSION = 1;

export const consentRoles = ['guardian', 'clinic', 'research'] as const;
export type ConsentRole = (typeof consentRoles)[number];

const keptShape = v.object({
  version: v.literal(CONSENT_VERSION),
  role: v.picklist(consentRoles),
  date: v.pipe(v.string(), v.isoTimestamp()),
});

export type Given = Omit<v.InferOutput<typeof keptShape>, 'version'>;

const isoOf = (time: number): string => new Date(time).toISOString();

export class Consent {
  given = $state.raw<Given | null>(null);

  constructor() {
    const kept = v.safeParse(keptShape, recallJson(KEY));
    if (kept.success) this.given = { role: kept.output.role, date: kept.output.date };
  }

  give(role: ConsentRole, now = Date.now()): void {
    this.given = { role, date: isoOf(now) };
    remember(KEY, JSON.stringify({ version: CONSENT_VERSION, ...this.given }));
  }

  /** What was kept until now stays; the page about records deletes it. */
  withdraw(): void {
    this.given = null;
    remember(KEY, null);
  }
}
