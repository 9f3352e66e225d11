// Plants every bug of src/gpu/planted-bugs.ts in its shader, one at a time, and runs the kernel's own
// tests and the known-answer test. The kernel's tests have to fail for each, the known-answer test,
// which is all that a person's browser runs, for at least half of them.
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';

const KNOWN = 'src/engine/known-answer-gpu.test.ts';
const folder = mkdtempSync(join(tmpdir(), 'planted-'));
const execute = promisify(execFile);

/** Whether a test of the file fails. It ends at the first one that does. */
async function fails(bug, file) {
  const out = join(folder, `${file.replaceAll('/', '.')}.json`);
  rmSync(out, { force: true });
  // SwiftShader compiles in milliseconds where lavapipe, the driver with f16, takes seconds.
  const env = { TEST_ADAPTER: 'SwiftShader', ...process.env, PLANTED_BUG: String(bug) };
  const vitest = ['node_modules/vitest/vitest.mjs', 'run', file, '--bail=1', '--reporter=json'];
  const run = execute(process.execPath, [...vitest, `--outputFile=${out}`], {
    env,
    timeout: 300_000,
    maxBuffer: 2 ** 26,
  });
  // A failed test is an exit code of 1 as well; what counts is the file of results.
  const error = await run.then(
    () => null,
    (failure) => failure,
  );
  try {
    const { numTotalTests, numFailedTests, numPassedTests } = JSON.parse(readFileSync(out, 'utf8'));
    if (numTotalTests === 0 || numFailedTests + numPassedTests === 0)
      throw new Error('nothing ran');
    return numFailedTests > 0;
  } catch (cause) {
    throw new Error(`${file}: vitest left no result: ${error?.stderr?.slice(-2000)}`, { cause });
  }
}

const source = readFileSync('src/gpu/planted-bugs.ts', 'utf8');
const kernels = [...source.matchAll(/^ {4}kernel: '(\w+)',\n {4}what: '([^']+)'/gm)];
if (await fails('', KNOWN)) throw new Error('the known-answer test fails without a bug');
let missed = 0;
let known = 0;
for (const [bug, [, kernel, what]] of kernels.entries()) {
  const test = `src/gpu/kernels/${kernel}.test.ts`;
  const [byKernel, byKnown] = await Promise.all([fails(bug, test), fails(bug, KNOWN)]);
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
