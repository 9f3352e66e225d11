import { join } from 'node:path';
import * as v from 'valibot';
import type { Manifest } from '../src/format/manifest.ts';
import { check, readJson } from './files.ts';

/** pediatricsgpt.json: what a checkpoint says about itself; and its default sampling. */

const text = v.string();
const bilingual = v.strictObject({ zh: text, en: text });
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const finite = v.pipe(v.number(), v.finite());
const piece = v.strictObject({ prefix: text, suffix: text });

const card = v.strictObject({
  id: text,
  name: bilingual,
  licence: text,
  intended_use: bilingual,
  limits: bilingual,
  tasks: v.pipe(
    v.array(v.strictObject({ id: text, title: bilingual, system: text })),
    v.minLength(1),
  ),
  template: v.strictObject({
    system: piece,
    user: piece,
    assistant: piece,
    separator: text,
    endId: count,
    stopIds: v.array(count),
  }),
  stages: v.array(
    v.strictObject({
      name: text,
      steps: count,
      tokens: count,
      seconds: finite,
      loss: v.nullable(finite),
    }),
  ),
  data: v.array(v.strictObject({ source: text, licence: text, records: count })),
  metrics: v.record(text, finite),
  known_answer_prompts: v.optional(v.record(text, text), {}),
});

export type Card = v.InferOutput<typeof card>;

/** Absent fields mean what transformers means by their absence. */
const generation = v.looseObject({
  do_sample: v.optional(v.boolean(), true),
  temperature: v.optional(v.pipe(finite, v.minValue(0)), 1),
  top_k: v.optional(count, 50),
  top_p: v.optional(v.pipe(finite, v.gtValue(0), v.maxValue(1)), 1),
  repetition_penalty: v.optional(v.pipe(finite, v.gtValue(0)), 1),
  max_new_tokens: v.optional(v.pipe(count, v.minValue(1)), 512),
});

/** @throws Failure NotFound, BadCheckpoint */
export async function readCard(folder: string): Promise<Card> {
  const name = 'pediatricsgpt.json';
  const hint = 'it names tasks, template, licence and origin (convert/README.md, Checkpoint)';
  return check(card, await readJson(folder, name, hint), join(folder, name));
}

/** @throws Failure NotFound, BadCheckpoint */
export async function readSampling(folder: string): Promise<Manifest['sampling']> {
  const name = 'generation_config.json';
  const json = await readJson(folder, name, 'it carries the default sampling');
  const read = check(generation, json, join(folder, name));
  return {
    temperature: read.do_sample ? read.temperature : 0,
    topK: read.top_k,
    topP: read.top_p,
    repetitionPenalty: read.repetition_penalty,
    maxTokens: read.max_new_tokens,
  };
}
