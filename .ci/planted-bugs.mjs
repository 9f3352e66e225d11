// Plants every bug of src/gpu/planted-bugs.ts in its shader, one at a time, and runs the kernel's own
// tests and the known-answer test. The kernel's tests have to fail for each, the known-answer test,
// which is all that a person's browser runs, for at least half of them.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';

const KNOWN = 'src/engine/known-answer-gpu.test.ts';
const folder = mkdtempSync(join(tmpdir(), 'planted-'));
const out = join(folder, 'result.json');

/** Files of tests that failed. */
function failed(bug, files) {
  rmSync(out, { force: true });
  // SwiftShader compiles in milliseconds where lavapipe, the driver with f16, takes seconds.
  const env = { TEST_ADAPTER: 'SwiftShader', ...process.env, PLANTED_BUG: String(bug) };
  const run = spawnSync(
    process.execPath,
    ['node_modules/vitest/vitest.mjs', 'run', ...files, '--reporter=json', `--outputFile=${out}`],
    { env, stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8', timeout: 300_000 },
  );
  if (run.error) throw run.error;
  try {
    const { testResults } = JSON.parse(readFileSync(out, 'utf8'));
    if (testResults.length !== files.length) throw new Error(`${testResults.length} files ran`);
    return testResults.filter(({ status }) => status !== 'passed').map(({ name }) => name);
  } catch (error) {
    throw new Error(`vitest left no result: ${run.stderr.slice(-2000)}`, { cause: error });
  }
}

const source = readFileSync('src/gpu/planted-bugs.ts', 'utf8');
const kernels = [...source.matchAll(/^ {4}kernel: '(\w+)',\n {4}what: '([^']+)'/gm)];
const clean = failed('', [KNOWN]);
if (clean.length > 0) throw new Error('the known-answer test fails without a bug');
let missed = 0;
let known = 0;
for (const [bug, [, kernel, what]] of kernels.entries()) {
  const test = `src/gpu/kernels/${kernel}.test.ts`;
  const files = failed(bug, [test, KNOWN]);
  const byKernel = files.some((name) => name.endsWith(test));
  const byKnown = files.some((name) => name.endsWith(KNOWN));
  missed += byKernel ? 0 : 1;
  known += byKnown ? 1 : 0;
  const who = [
    byKernel ? 'kernel test' : 'MISSED by the kernel test',
    byKnown ? 'known answer' : '',
  ];
  console.log(`${kernel}: ${what}: ${who.filter(Boolean).join(', ')}`);
}
rmSync(folder, { recursive: true });
console.log(
  `${kernels.length} bugs, ${missed} missed by kernel tests, ${known} caught by the known-answer test alone`,
);
if (kernels.length < 12 || missed > 0 || known * 2 < kernels.length) process.exit(1);
