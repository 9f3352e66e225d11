import { ESLint } from 'eslint';
import ts from 'typescript-eslint';
import { describe, expect, it } from 'vitest';
import { arrows, rooms } from '../.ci/rooms.js';

/** The project's own lint configuration; type information is not needed for imports. */
const eslint = new ESLint({
  overrideConfig: [
    ts.configs.disableTypeChecked,
    { languageOptions: { parserOptions: { projectService: false, project: null } } },
  ],
});

type Room = keyof typeof arrows;
const table: Record<string, readonly string[]> = arrows;

/** How a file in one room names a file in another. */
function specifier(from: string, to: string, file: string): string {
  const up = '../'.repeat(rooms[from as Room].split('/').length);
  return `${up}${rooms[to as Room]}/${file}.ts`;
}

async function complaints(room: string, code: string, name = 'planted.ts'): Promise<string[]> {
  const filePath = `${rooms[room as Room]}/${name}`;
  const [result] = await eslint.lintText(code, { filePath });
  return (result?.messages ?? [])
    .filter((m) => m.fatal === true || m.ruleId === 'no-restricted-imports')
    .map((m) => m.message);
}

const pairs = Object.keys(table).flatMap((from) =>
  Object.keys(rooms)
    .filter((to) => to !== from)
    .map((to) => [from, to] as const),
);

describe('imports follow docs/architecture.md', () => {
  it.each(pairs)('%s -> %s is allowed or refused as decided', async (from, to) => {
    const allowed = table[from] ?? [];
    const planted = await complaints(from, `export * from '${specifier(from, to, 'anything')}';\n`);
    expect(planted.length > 0).toBe(!allowed.includes(to));
  });

  it('allows single files of a room by name only', async () => {
    for (const [from, list] of Object.entries(table)) {
      for (const one of list.filter((entry) => entry.includes('/'))) {
        const to = one.slice(0, one.indexOf('/'));
        const file = one.slice(to.length + 1);
        const good = await complaints(from, `export * from '${specifier(from, to, file)}';\n`);
        expect(good, `${from} -> ${one}`).toEqual([]);
        const bad = await complaints(from, `export * from '${specifier(from, to, `${file}x`)}';\n`);
        expect(bad, `${from} -> ${one}x`).not.toEqual([]);
      }
    }
  });

  it.each([
    ['ui', 'comlink'],
    ['engine', '@mlc-ai/web-llm'],
    ['ui', '@mlc-ai/web-llm'],
    ['engine', 'idb-keyval'],
    ['store', 'svelte/store'],
    ['model', 'webgpu'],
    ['gpu', 'node:fs'],
    ['format', 'node:crypto'],
    ['safety', '@solid-primitives/i18n'],
  ])('%s may not use the package %s', async (room, name) => {
    expect(await complaints(room, `import '${name}';\n`)).not.toEqual([]);
  });

  it('keeps the engine out of the page side of the border', async () => {
    const code = "import '../engine/engine.ts';\n";
    expect(await complaints('worker', code, 'client.ts')).not.toEqual([]);
    expect(await complaints('worker', code, 'worker.ts')).toEqual([]);
  });

  it('lets every room use the list of failures', async () => {
    for (const room of ['format', 'gpu', 'engine', 'store', 'ui']) {
      expect(await complaints(room, "import '../failure.ts';\n")).toEqual([]);
    }
  });
});
