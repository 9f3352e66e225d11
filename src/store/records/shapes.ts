import * as v from 'valibot';

/** What is kept of children and consultations: schema 2. Types come from the schemas. */

export const SCHEMA = 2;

/** Whether a text is a day of the calendar, YYYY-MM-DD. */
export function isDay(text: string): boolean {
  if (!/^\d{4}-\d{2}-\d{2}$/.test(text)) return false;
  const time = Date.parse(`${text}T00:00:00.000Z`);
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(text);
}

/** Ids are part of keys and of what encryption binds a record to: nothing but these characters. */
const id = v.pipe(v.string(), v.regex(/^[a-z0-9-]{1,64}$/));
const day = v.pipe(v.string(), v.check(isDay, 'a day is YYYY-MM-DD'));
/** ISO 8601 in UTC with milliseconds, as `Date.toISOString` writes it: texts sort as times do. */
const moment = v.pipe(
  v.string(),
  v.regex(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/),
  v.check((text) => !Number.isNaN(Date.parse(text)), 'no such time'),
);
const amount = v.pipe(v.number(), v.finite(), v.minValue(0));

export const childShape = v.strictObject({
  id,
  nickname: v.string(), // never an id number: see `childProblems`
  birthDate: v.nullable(day),
  sex: v.picklist(['female', 'male', 'unknown']),
  weights: v.array(v.strictObject({ kg: amount, date: day })), // oldest first
  allergies: v.string(),
  chronicIllness: v.string(),
  created: moment,
  updated: moment,
  /** When it was deleted; kept for a while so that this can be undone. */
  deleted: v.nullable(moment),
});

/** What was known of the child when the consultation began. */
const intakeShape = v.strictObject({
  ageDays: v.nullable(v.pipe(v.number(), v.integer(), v.minValue(0))),
  weightKg: v.nullable(amount),
  temperature: v.nullable(
    v.strictObject({
      celsius: v.pipe(v.number(), v.finite()),
      site: v.picklist(['axillary', 'ear', 'rectal', 'oral', 'forehead']),
    }),
  ),
  duration: v.string(),
  symptoms: v.string(),
  drugs: v.string(), // taken already, with their times
  allergies: v.string(),
  /** For a treatment recommendation: the working diagnosis, and what limits the treatment. */
  diagnosis: v.string(),
  constraints: v.string(),
});

export const messageShape = v.strictObject({
  id,
  /** The message before it; null for a first question. Siblings are branches. */
  parent: v.nullable(id),
  role: v.picklist(['user', 'assistant']),
  text: v.string(),
  /** `partial`: the page went away while the answer ran. */
  state: v.picklist(['done', 'stopped', 'partial', 'failed']),
  time: moment,
  /** Of an answer: the model that gave it, what computed, how it ended. Null where not known. */
  model: v.nullable(v.string()),
  backend: v.nullable(v.string()),
  variant: v.nullable(v.string()),
  finish: v.nullable(v.picklist(['stop', 'length', 'cancelled'])),
  /** What the person thinks of an answer. It never leaves the device but in an export. */
  feedback: v.nullable(v.strictObject({ mark: v.picklist(['good', 'bad']), reason: v.string() })),
});

export const consultationShape = v.strictObject({
  id,
  child: v.nullable(id),
  task: v.string(),
  title: v.string(),
  created: moment,
  updated: moment,
  intake: v.nullable(intakeShape),
  /** Every question and every answer there ever was, parents before their children. */
  messages: v.array(messageShape),
  /** The end of the branch that is shown; null where nothing was said. */
  leaf: v.nullable(id),
});

/** What a list shows, kept apart so that listing reads no message. */
export const entryShape = v.strictObject({
  id,
  child: v.nullable(id),
  task: v.string(),
  title: v.string(),
  created: moment,
  updated: moment,
  deleted: v.nullable(moment),
});

export type Child = v.InferOutput<typeof childShape>;
export type Intake = v.InferOutput<typeof intakeShape>;
export type Message = v.InferOutput<typeof messageShape>;
export type Feedback = NonNullable<Message['feedback']>;
export type Consultation = v.InferOutput<typeof consultationShape>;
export type Entry = v.InferOutput<typeof entryShape>;
