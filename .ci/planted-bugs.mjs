// Plants every bug of src/gpu/planted-bugs.ts in its shader, one at a time, and runs the kernel's own
// tests and the known-answer test. The kernel's tests have to fail for each, the known-answer test,
// which is all that a person's browser runs, for at least half of those on the usual way of a kernel.
// Numbers of bugs as arguments run only these, without a look at the half.
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
const place = /^ {4}kernel: '(\w+)',\n {4}what: '([^']+)',(?:\n {4}test: '([\w-]+)')?/gm;
const bugs = [...source.matchAll(place)].map(([, kernel, what, test], number) => {
  return { number, kernel, what, test };
});
const asked = process.argv.slice(2).map(Number);
const chosen = asked.length === 0 ? bugs : bugs.filter(({ number }) => asked.includes(number));
if (asked.length === 0 && (await fails('', KNOWN)))
  throw new Error('the known-answer test fails without a bug');
const all = asked.length === 0;
const usual = chosen.filter(({ test }) => test === undefined).length;
let missed = 0;
let known = 0;
for (const { number, kernel, what, test } of chosen) {
  const file = `src/gpu/kernels/${test ?? kernel}.test.ts`;
  const [byKernel, byKnown] = await Promise.all([
    fails(number, file),
    // Once half of them are caught there is nothing left to show.
    test === undefined && (!all || known * 2 < usual) && fails(number, KNOWN),
  ]);
  missed += byKernel ? 0 : 1;
  known += byKnown ? 1 : 0;
  const who = [
    byKernel ? 'kernel test' : 'MISSED by the kernel test',
    byKnown ? 'known answer' : '',
  ];
  console.log(`${number} ${kernel}: ${what}: ${who.filter(Boolean).join(', ')}`);
}
rmSync(folder, { recursive: true });
console.log(
  `${chosen.length} bugs, ${missed} missed by kernel tests; ${all ? 'at least ' : ''}${known} of ${usual} on the usual way caught by the known-answer test alone`,
);
if (chosen.length === 0 || (all && chosen.length < 12) || missed > 0) process.exit(1);
if (all && known * 2 < usual) process.exit(1);
