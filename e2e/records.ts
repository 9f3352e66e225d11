/** Records as files of the app, made without it. */

export const TIME = '2026-11-20T08:00:00.000Z';

export type Json = Record<string, unknown>;

/** One thing that was said, after `parent`. */
export const message = (id: string, parent: string | null, role: string, text: string) => {
  const nothing = { model: null, backend: null, variant: null, finish: null, feedback: null };
  return { id, parent, role, text, state: 'done', time: TIME, ...nothing };
};

/** A consultation of these messages, which follow one another. */
export function consultation(
  id: string,
  title: string,
  messages: readonly (Json & { readonly id: string })[],
): Json {
  const ids = { id, child: null, task: 'medkqa', created: TIME, updated: TIME, intake: null };
  return { ...ids, title, messages, leaf: messages.at(-1)?.id ?? null };
}

/** An export with nothing in it but what is given. */
export const records = (more: Json = {}): Json => ({
  format: 'pediatricsgpt-records',
  version: 1,
  aiGenerated: true,
  label: { zh: '', en: '' },
  generator: { app: 'x', version: '1', models: [] },
  exported: TIME,
  children: [],
  consultations: [],
  ...more,
});

/** For a field that takes a file: JSON, or these words or bytes as they are. */
export const jsonFile = (content: unknown, name = 'records.json') => ({
  name,
  mimeType: 'application/json',
  buffer: Buffer.isBuffer(content)
    ? content
    : Buffer.from(typeof content === 'string' ? content : JSON.stringify(content)),
});
