import * as v from 'valibot';
import { Failure } from '../../failure.ts';
import { identityIn } from './child.ts';
import { type Child, childShape, type Consultation, consultationShape } from './shapes.ts';
import { treeFault } from './tree.ts';

/**
 * Records as a file, and back: a JSON document with a strict schema of its own, which names its
 * version. A file comes from anywhere, so it is measured before it is parsed and never half taken.
 */

const FORMAT = 'pediatricsgpt-records';
const VERSION = 1;

/** The limits of an import: generous for a clinic, small for a browser. */
export const limits = {
  fileBytes: 64 * 1024 * 1024,
  children: 5_000,
  consultations: 20_000,
  messages: 5_000, // of one consultation
  weights: 2_000, // of one child
  text: 200_000, // characters of one message
  line: 2_000, // characters of a name, a title or a field
} as const;

/** The visible label that every export carries, and the same in the document's own fields. */
export const aiLabel = {
  zh: '内容由人工智能生成（PediatricsGPT，研究用小模型），不能代替医生，不作为诊疗依据。急症请拨打 120。',
  en: 'AI-generated content (PediatricsGPT, a small research model). No substitute for a doctor and no basis for diagnosis or treatment. In an emergency call 120.',
} as const;

/** `deleted` is a matter of this device and is not in a file. */
const childInFile = v.omit(childShape, ['deleted']);

const fileShape = v.strictObject({
  format: v.literal(FORMAT),
  version: v.literal(VERSION),
  /** Metadata that says what this is to a program: the answers were made by a model. */
  aiGenerated: v.literal(true),
  label: v.strictObject({ zh: v.string(), en: v.string() }),
  generator: v.strictObject({
    app: v.string(),
    version: v.string(),
    models: v.array(v.string()),
  }),
  exported: v.string(),
  children: v.array(childInFile),
  consultations: v.array(consultationShape),
});

/** What made the file. */
export interface Generator {
  readonly app: string;
  readonly version: string;
}

/** All records as the text of a JSON file. */
export function exportText(
  children: readonly Child[],
  consultations: readonly Consultation[],
  generator: Generator,
  now = new Date(),
): string {
  const models = new Set(
    consultations.flatMap(({ messages }) => messages.flatMap(({ model }) => model ?? [])),
  );
  const file: v.InferOutput<typeof fileShape> = {
    format: FORMAT,
    version: VERSION,
    aiGenerated: true,
    label: aiLabel,
    generator: { ...generator, models: [...models].sort() },
    exported: now.toISOString(),
    children: children.map((child) => v.parse(v.object(childInFile.entries), child)),
    consultations: [...consultations],
  };
  return `${JSON.stringify(file, null, 1)}\n`;
}

/** What an import would do, and the records that it would add. */
export interface ImportPlan {
  /** Not here yet. */
  readonly added: number;
  /** Here already, exactly so. */
  readonly same: number;
  /** Here with other content: it comes in beside it, under an id of its own. */
  readonly beside: number;
  readonly children: readonly Child[];
  readonly consultations: readonly Consultation[];
}

/**
 * Looks at a file without changing anything.
 * @param bytes the file as it is
 * @throws Failure BadImport, NewerImport
 */
export async function planImport(
  bytes: Uint8Array,
  have: { readonly children: readonly Child[]; readonly consultations: readonly Consultation[] },
): Promise<ImportPlan> {
  const file = parsed(bytes);
  const counts = { added: 0, same: 0, beside: 0 };
  const newIds = new Map<string, string>();
  const children: Child[] = [];
  for (const child of file.children) {
    const incoming = { ...child, deleted: null };
    const taken = await placed(incoming, have.children, counts);
    newIds.set(child.id, taken.id);
    if (taken.isNew) children.push({ ...incoming, id: taken.id });
  }
  const known = new Set(have.children.map(({ id }) => id));
  const consultations: Consultation[] = [];
  for (const consultation of file.consultations) {
    const { child } = consultation;
    const owner = child === null ? null : (newIds.get(child) ?? (known.has(child) ? child : null));
    const incoming = { ...consultation, child: owner };
    const taken = await placed(incoming, have.consultations, counts);
    if (taken.isNew) consultations.push({ ...incoming, id: taken.id });
  }
  return { ...counts, children, consultations };
}

/** Under which id a record comes in. The same file again finds its own ids, and adds nothing. */
async function placed<T extends { readonly id: string }>(
  incoming: T,
  have: readonly T[],
  counts: { added: number; same: number; beside: number },
): Promise<{ id: string; isNew: boolean }> {
  const there = (id: string): T | undefined => have.find((record) => record.id === id);
  const { id } = incoming;
  const old = there(id);
  if (!old) {
    counts.added += 1;
    return { id, isNew: true };
  }
  const content = canonical(incoming);
  if (canonical(old) === content) {
    counts.same += 1;
    return { id, isNew: false };
  }
  const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(content));
  const hex = [...new Uint8Array(hash).slice(0, 16)].map((b) => b.toString(16).padStart(2, '0'));
  const other = `import-${hex.join('')}`;
  const isNew = there(other) === undefined;
  if (isNew) counts.beside += 1;
  else counts.same += 1;
  return { id: other, isNew };
}

/** A value as text, whatever the order of its fields. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

function refuse(message: string, cause?: unknown): never {
  throw new Failure('BadImport', message, { cause });
}

function parsed(bytes: Uint8Array): v.InferOutput<typeof fileShape> {
  if (bytes.length > limits.fileBytes) {
    refuse(`${bytes.length} bytes, at most ${limits.fileBytes} are read`);
  }
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    return refuse('no JSON in UTF-8', error);
  }
  const head = v.safeParse(v.object({ format: v.literal(FORMAT), version: v.number() }), value);
  if (!head.success) refuse(`the file does not say that it is ${FORMAT}`);
  if (head.output.version > VERSION) {
    throw new Failure('NewerImport', `version ${head.output.version}, read up to ${VERSION}`);
  }
  const counted = v.safeParse(
    v.object({
      children: v.pipe(v.array(v.unknown()), v.maxLength(limits.children)),
      consultations: v.pipe(v.array(v.unknown()), v.maxLength(limits.consultations)),
    }),
    value,
  );
  if (!counted.success) refuse(said(counted.issues));
  const result = v.safeParse(fileShape, value, { abortEarly: true });
  if (!result.success) refuse(said(result.issues));
  const file = result.output;
  file.children.forEach((child, i) => checkChild(child, `children.${i}`));
  file.consultations.forEach((one, i) => checkConsultation(one, `consultations.${i}`));
  checkOnce(file.children, 'children');
  checkOnce(file.consultations, 'consultations');
  return file;
}

const said = (issues: readonly v.BaseIssue<unknown>[]): string =>
  issues.map((issue) => `${v.getDotPath(issue) ?? 'file'}: ${issue.message}`).join('; ');

function checkLine(text: string, where: string, most: number = limits.line): void {
  if (text.length > most) refuse(`${where}: ${text.length} characters, at most ${most}`);
}

function checkChild(child: v.InferOutput<typeof childInFile>, where: string): void {
  for (const field of ['nickname', 'allergies', 'chronicIllness'] as const) {
    checkLine(child[field], `${where}.${field}`);
  }
  if (identityIn(child.nickname)) refuse(`${where}.nickname: a number that identifies somebody`);
  if (child.weights.length > limits.weights) refuse(`${where}.weights: too many`);
}

const intakeTexts = [
  'duration',
  'symptoms',
  'drugs',
  'allergies',
  'diagnosis',
  'constraints',
] as const;

function checkConsultation(consultation: Consultation, where: string): void {
  const { title, task, messages, intake } = consultation;
  checkLine(title, `${where}.title`);
  checkLine(task, `${where}.task`);
  for (const field of intakeTexts) {
    if (intake) checkLine(intake[field], `${where}.intake.${field}`);
  }
  if (messages.length > limits.messages) refuse(`${where}.messages: too many`);
  for (const { id, text, feedback, model } of messages) {
    checkLine(text, `${where}.messages, ${id}`, limits.text);
    checkLine(feedback?.reason ?? '', `${where}.messages, ${id}, reason`);
    checkLine(model ?? '', `${where}.messages, ${id}, model`);
  }
  const fault = treeFault(consultation);
  if (fault) refuse(`${where}: ${fault}`);
}

function checkOnce(records: readonly { readonly id: string }[], where: string): void {
  const seen = new Set<string>();
  for (const { id } of records) {
    if (seen.has(id)) refuse(`${where}: ${id} is there twice`);
    seen.add(id);
  }
}
