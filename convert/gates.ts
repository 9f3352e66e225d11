import { join } from 'node:path';
import * as v from 'valibot';
import { Failure } from '../src/failure.ts';
import type { AdaptedLinear, AdapterInfo } from '../src/format/manifest.ts';
import { check, exists, readJson } from './files.ts';

/** Gates of the specific experts per task: what merges the mixture into one low-rank pair. */

const gatesSchema = v.record(
  v.string(),
  v.record(v.string(), v.array(v.pipe(v.number(), v.finite()))),
);

type GateFile = v.InferOutput<typeof gatesSchema>;

/** task_gates.json of an adapter folder, or null where there is none. */
export async function readGates(folder: string): Promise<GateFile | null> {
  const name = 'task_gates.json';
  if (!(await exists(folder, name))) return null;
  return check(gatesSchema, await readJson(folder, name, ''), join(folder, name));
}

interface GateContext {
  readonly mode: AdapterInfo['mode'];
  readonly linears: readonly AdaptedLinear[];
  readonly tasks: readonly string[];
  readonly experts: number;
  readonly folder: string;
  readonly routers: number;
}

/** Gates per task in the order of the linears; uniform where neither gates nor router exist. */
export function gateTable(file: GateFile | null, context: GateContext): AdapterInfo['gates'] {
  const { mode, linears, tasks, experts, folder, routers } = context;
  if (file === null) {
    if (mode === 'routed') return {};
    if (routers > 0) {
      const what = 'no task_gates.json, but a trained router that merging needs gates for';
      throw bad(folder, `${what}; set "mode": "routed" in adapter_config.json, or add the gates`);
    }
    const row = Array.from({ length: experts - 1 }, () => 1 / (experts - 1));
    return Object.fromEntries(tasks.map((task) => [task, linears.map(() => [...row])]));
  }
  const unknown = Object.keys(file).find((task) => !tasks.includes(task));
  if (unknown !== undefined) throw bad(folder, `task_gates.json: unknown task ${unknown}`);
  const rowsOf = (task: string): number[][] => {
    const gates = file[task];
    if (gates === undefined) throw bad(folder, `task_gates.json: no gates for task ${task}`);
    const known = new Set(linears.map(({ linear }) => linear));
    const extra = Object.keys(gates).find((linear) => !known.has(linear));
    if (extra !== undefined) throw bad(folder, `task_gates.json: ${task}: unknown linear ${extra}`);
    return linears.map(({ linear }) => {
      const row = gates[linear] ?? [];
      if (row.length === experts - 1) return row;
      const counts = `${row.length} gates for ${experts - 1} specific experts`;
      throw bad(folder, `task_gates.json: ${task}: ${linear}: ${counts}`);
    });
  };
  return Object.fromEntries(tasks.map((task) => [task, rowsOf(task)]));
}

function bad(folder: string, what: string): Failure {
  return new Failure('BadCheckpoint', `${folder}: ${what}`);
}
