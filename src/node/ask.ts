import './wgsl-loader.mjs';

// Shaders can be imported only once the loader above is in place, so the rest comes afterwards.
const { run } = await import('./run.ts');

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // Whoever reads the answer has gone, as `| head` does: nothing is left to do.
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

const status = await run(process.argv.slice(2));
// Dawn keeps threads that would hold the process; everything is written before it ends.
process.stdout.write('', () => process.stderr.write('', () => process.exit(status)));
