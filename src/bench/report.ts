import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';
import { chart } from './chart.ts';
import type { Bar, BenchResult, Row } from './rows.ts';

/** `docs/bench.json` keeps runs by name; `bench.md` and `bench.svg` show them. */

const START = '<!-- figures: written by `npm run bench`, do not edit -->';
const END = '<!-- end of figures -->';

/** Puts a run in the place of the one of that name, and writes table and chart anew. */
export async function writeDocs(folder: string, name: string, result: BenchResult): Promise<void> {
  await mkdir(folder, { recursive: true });
  const path = join(folder, 'bench.json');
  const runs = { ...(await readRuns(path)), [name]: result };
  const style = await resolveConfig(import.meta.filename);
  await writeFile(path, await format(JSON.stringify(runs), { ...style, parser: 'json' }));
  const page = runs['page'];
  if (page !== undefined) await writeFile(join(folder, 'bench.svg'), chart(page.rows));
  const text = join(folder, 'bench.md');
  const old = await readOr(text, `# Measured\n\n${START}\n${END}\n`);
  await writeFile(text, withFigures(old, runs));
}

async function readRuns(path: string): Promise<Record<string, BenchResult>> {
  return JSON.parse(await readOr(path, '{}')) as Record<string, BenchResult>;
}

async function readOr(path: string, otherwise: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return otherwise;
    throw error;
  }
}

/** What stands between the marks is replaced; the words around it are a person's. */
function withFigures(text: string, runs: Readonly<Record<string, BenchResult>>): string {
  const [start, end] = [text.indexOf(START), text.indexOf(END)];
  if (start === -1 || end < start)
    throw new Error(`bench.md has lost its marks: ${START} … ${END}`);
  const sections = Object.entries(runs).map(([name, run]) => section(name, run));
  return [text.slice(0, start), START, '\n\n', sections.join('\n\n'), '\n\n', text.slice(end)].join(
    '',
  );
}

function section(
  name: string,
  { date, machine, model, command, differences, rows, bars = [] }: BenchResult,
): string {
  const pairs = (record: Readonly<Record<string, string | number>>): string =>
    Object.entries(record)
      .map(([key, value]) => `${key} ${value}`)
      .join(' · ');
  const facts = [`${date.slice(0, 10)}, \`${command}\``, pairs(machine), pairs(model)];
  if (Object.keys(differences).length > 0) {
    facts.push(
      `Largest difference from ours, as a part of the values' root mean square: ${pairs(differences)}`,
    );
  }
  const held = bars.length === 0 ? [] : [barTable(bars)];
  return [`### ${name}`, ...facts, ...held, table(rows)].join('\n\n');
}

function barTable(bars: readonly Bar[]): string {
  const lines = bars.map(
    ({ what, measured, bar, met }) => `| ${what} | ${measured} | ${bar} | ${met ? 'yes' : 'no'} |`,
  );
  return ['| bar | measured | wanted | met |', '| --- | --- | --- | --- |', ...lines].join('\n');
}

function table(rows: readonly Row[]): string {
  const peers = rows.some(({ peer }) => peer !== null);
  const lines = rows.map(({ name, ours, peer, peerName, unit, ratio }) => {
    const other = peer === null ? ['', '', ''] : [`${peer} ${unit}`, peerName ?? '', `${ratio}×`];
    return `| ${[name, `${ours} ${unit}`, ...(peers ? other : [])].join(' | ')} |`;
  });
  const head = peers ? ['what', 'ours', 'other', 'which', 'ratio'] : ['what', 'ours'];
  return [`| ${head.join(' | ')} |`, `|${head.map(() => ' --- |').join('')}`, ...lines].join('\n');
}
