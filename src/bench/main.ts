import { writeFile } from 'node:fs/promises';
import process from 'node:process';
import { Command, InvalidArgumentError, Option } from 'commander';
import type { EngineName } from './engine.ts';
import { contextBars, pageBars } from './bars.ts';
import { contextResult, nodeResult } from './node-rows.ts';
import { memoryPackage, type Shape } from './random-model.ts';
import type { Bar, BenchResult } from './rows.ts';

/** `npm run bench`. */

const engines: readonly EngineName[] = ['ours', 'ort-webgpu', 'ort-webgpu-int8', 'ort-wasm'];
const log = (line: string): void => void process.stderr.write(`${line}\n`);
const command = `npm run bench -- ${process.argv.slice(2).join(' ')}`;

interface OutputFlags {
  readonly json?: string;
  readonly docs?: string;
}

interface NodeFlags extends OutputFlags {
  readonly variant: 'auto' | 'f32' | 'f16';
  readonly cache: 'elem' | 'int8';
  readonly int8: boolean;
  readonly steps: number;
  readonly contexts: readonly number[];
}

interface PageFlags extends OutputFlags {
  readonly engines: readonly EngineName[];
  readonly contexts: readonly number[];
  readonly prompt: number;
  readonly repetitions: number;
  readonly minutes: number;
  readonly threads: number;
  readonly hardware: boolean;
  readonly node: boolean;
  readonly mlc?: string;
  readonly tokenizer?: string;
}

/** Qwen2-0.5B: what its head of 151,936 rows costs does not grow with the context. */
const QWEN2: Shape = { vocab: 151_936, width: 896, mlpWidth: 4864, layers: 24, heads: 14, kvHeads: 2, capacity: 2176, adapterRank: 0, seed: 1 }; // prettier-ignore

const program = new Command('bench')
  .description('Measures the engine. Peers and limits are measured in the same run.')
  .showHelpAfterError();
addModel(program);
addShape(program);
addContext(program);
addPage(program);
addApp(program);
addConvert(program);
await program.parseAsync();
process.exit(0); // Dawn keeps the process alive

function addModel(parent: Command): void {
  const model = parent
    .command('model', { isDefault: true })
    .description("a package on this machine's GPU, in Node (the default command)")
    .requiredOption('--package <dir>', 'folder of the model package');
  addNodeOptions(model, [16, 128, 512, 1024]);
  model.action(async (flags: NodeFlags & { package: string }) => {
    const { parseManifest } = await import('../format/layout.ts');
    const { DiskPackage } = await import('../node/disk.ts');
    const source = new DiskPackage(flags.package);
    const manifest = parseManifest(await source.read('manifest.json'));
    const { benchModel } = await import('../node/bench.ts');
    const result = await benchModel({ ...flags, manifest, read: (file) => source.read(file), log });
    await write(`node, ${manifest.id}`, nodeResult(result, {}, command), flags, result);
  });
}

function addShape(parent: Command): void {
  const shape = parent
    .command('shape')
    .description('the same with random weights made in memory; without options the shape of 7B')
    .option('--docs-name <name>', 'heading of the run in the documents', 'node, 7B shape');
  addShapeOptions(shape, { adapterRank: 32, seed: 1, vocab: 125_696, width: 4096, mlpWidth: 11_008, layers: 32, heads: 32, kvHeads: 32, capacity: 4096 }); // prettier-ignore
  addNodeOptions(shape, [64, 512, 2048]);
  shape.action(async (flags: NodeFlags & Shape & { docsName: string }) => {
    const size = shapeOf(flags);
    const { manifest, read } = memoryPackage(size);
    const { benchModel } = await import('../node/bench.ts');
    const result = await benchModel({ ...flags, manifest, read, log });
    await write(flags.docsName, nodeResult(result, { ...size }, command), flags, result);
  });
}

function addNodeOptions(to: Command, contexts: readonly number[]): void {
  to.option('--steps <n>', 'decode steps at every context', number, 32)
    .option('--contexts <list>', 'tokens in the cache before the steps', numbers, contexts)
    .addOption(new Option('--variant <type>').choices(['auto', 'f32', 'f16']).default('auto'))
    .addOption(
      new Option('--cache <type>', 'keys and values as activations are, or in 8 bits')
        .choices(['elem', 'int8'])
        .default('elem'),
    )
    .option('--int8', 'let activations be 8-bit integers where that measures faster', false);
  addOutputOptions(to);
}

interface ContextFlags extends OutputFlags {
  readonly short: number;
  readonly long: number;
  readonly steps: number;
  readonly page: boolean;
}

function addContext(parent: Command): void {
  const context = parent
    .command('context')
    .description(
      'decoding after few and many tokens in Node: f32, f16, each with a cache of 8 bits too',
    )
    .option('--short <n>', 'few tokens', number, 64)
    .option('--long <n>', 'many tokens', number, 2048)
    .option('--steps <n>', 'decode steps at each', number, 8)
    .option('--page', 'in Chromium on SwiftShader instead, f32', false);
  addShapeOptions(context, QWEN2);
  addOutputOptions(context);
  context.action(async (flags: ContextFlags & Shape) => {
    const measure = flags.page ? measurePageContexts : measureContexts;
    printBars(await measure(shapeOf(flags), flags));
  });
}

/** As `measureContexts`, of our engine on a page. */
async function measurePageContexts(shape: Shape, flags: ContextFlags): Promise<readonly Bar[]> {
  const { short, long, steps } = flags;
  const { benchPage } = await import('./page-run.ts');
  const run = await benchPage({
    shape,
    engines: ['ours'],
    contexts: [short, long],
    promptTokens: short,
    repetitions: Math.ceil(steps / 4), // of four steps each
    minutes: Infinity,
    threads: 1,
    hardware: false,
    command,
    log,
  });
  const bars = contextBars(run.rows);
  const result = { ...run, bars };
  await write('page, by context', result, flags, result);
  return bars;
}

/** Measures and writes. @returns what it came to */
async function measureContexts(
  shape: Shape,
  flags: Omit<ContextFlags, 'page'>,
): Promise<readonly Bar[]> {
  const { benchContexts } = await import('../node/bench-context.ts');
  const bench = await benchContexts({ ...flags, ...memoryPackage(shape), log });
  const run = contextResult(bench, flags, { ...shape }, command);
  const bars = contextBars(run.rows);
  const result = { ...run, bars };
  await write('node, by context', result, flags, result);
  return bars;
}

function printBars(bars: readonly Bar[]): void {
  console.log('bars:');
  console.table(bars);
}

function addPage(parent: Command): void {
  const page = parent
    .command('page')
    .description('in Chromium, against ONNX Runtime Web on the same 4-bit weights, by turns')
    .option('--engines <list>', `of ${engines.join(', ')}; ours is always there`, names, engines)
    .option('--contexts <list>', 'tokens in the cache before decode steps', numbers, [64, 2048])
    .option('--prompt <n>', 'tokens of a prefill', number, 64)
    .option('--repetitions <n>', 'turns of every engine, at most', number, 3)
    .option('--minutes <n>', 'begin no further turn that would end later', number, 5)
    .option('--threads <n>', 'threads of WebAssembly', number, 2)
    .option('--hardware', "take Chromium's GPU instead of SwiftShader", false)
    .option('--no-node', 'leave out what `context` measures in Node at the shape of Qwen2-0.5B')
    .addOption(
      new Option(
        '--mlc <lib>',
        'web-llm in place of ONNX Runtime: a *-webgpu.wasm, whose shape both take',
      ).conflicts(['engines', 'threads', 'adapterRank']),
    )
    .option(
      '--tokenizer <file>',
      'of --mlc, a tokenizer.json (default: that of the shipped model)',
    );
  addShapeOptions(page, { adapterRank: 32, seed: 1, vocab: 16_384, width: 896, mlpWidth: 4864, layers: 8, heads: 14, kvHeads: 2, capacity: 2176 }); // prettier-ignore
  addOutputOptions(page);
  page.action(async (flags: PageFlags & Shape) => {
    if (flags.mlc !== undefined) return measureMlc(page, flags, flags.mlc);
    const { benchPage } = await import('./page-run.ts');
    const { prompt: promptTokens } = flags;
    const run = await benchPage({ ...flags, promptTokens, shape: shapeOf(flags), command, log });
    const bars = pageBars(run.rows);
    const result = { ...run, bars };
    await write('page', result, flags, result);
    printBars(bars);
    if (!flags.node) return;
    const { docs } = flags; // a file of --json holds the page's run
    const many = { short: 64, long: 2048, steps: 8, ...(docs === undefined ? {} : { docs }) };
    printBars([...bars, ...(await measureContexts(QWEN2, many))]);
  });
}

/** Of the shape only what was typed is asked for: the rest is the library's. */
async function measureMlc(page: Command, flags: PageFlags & Shape, library: string): Promise<void> {
  const sizes = ['vocab', 'width', 'mlpWidth', 'layers', 'heads', 'kvHeads'] as const;
  const typed = sizes.filter((name) => page.getOptionValueSource(name) === 'cli');
  const asked = Object.fromEntries(typed.map((name) => [name, flags[name]]));
  const { benchMlc } = await import('./mlc-run.ts');
  const result = await benchMlc({ ...flags, library, asked, promptTokens: flags.prompt, command, log }); // prettier-ignore
  await write('page, web-llm', result, flags, result);
}

function addApp(parent: Command): void {
  const app = parent
    .command('app')
    .description(
      'the built app in Chromium: its first paint, and decode at some 256 tokens of context',
    )
    .addOption(new Option('--backend <name>').choices(['auto', 'webgpu', 'cpu']).default('cpu'))
    .option('--answers <n>', 'questions asked', number, 10)
    .option(
      '--random',
      'of 40 million random weights, without an adapter, in place of the shipped model',
      false,
    )
    .option('--hardware', "take Chromium's GPU instead of SwiftShader", false);
  app.action(
    async (flags: {
      backend: 'auto' | 'webgpu' | 'cpu';
      answers: number;
      random: boolean;
      hardware: boolean;
    }) => {
      const { benchApp } = await import('./app-run.ts');
      console.log(JSON.stringify(await benchApp({ ...flags, log }), null, 2));
    },
  );
}

function addConvert(parent: Command): void {
  const made = parent
    .command('convert')
    .description('a checkpoint in the layout of Baichuan2-7B, converted by each recipe and copied')
    .option('--layers <n>', 'of the 32; each is 0.4 GB, beside 2 GB of embeddings', number, 8)
    .option('--repetitions <n>', 'turns of copying and converting', number, 3)
    .option('--seed <n>', 'of the random weights', number, 1)
    .option('--cache <dir>', 'where checkpoint and packages are made', '.cache/bench');
  addOutputOptions(made);
  made.action(
    async (
      flags: OutputFlags & { layers: number; repetitions: number; seed: number; cache: string },
    ) => {
      const { benchConvert } = await import('./convert-run.ts');
      const result = await benchConvert({ ...flags, command, log });
      console.table(result.bars);
      await write('convert', result, flags, result);
    },
  );
}

function addOutputOptions(to: Command): void {
  to.option(
    '--json <file>',
    'write the rows {name, ours, peer, peerName, unit, ratio} and samples',
  ).option('--docs <dir>', 'put the run into bench.json, bench.md and bench.svg of this folder');
}

/** The options of a random model's shape. */
function addShapeOptions(to: Command, defaults: Shape): void {
  to.option('--vocab <n>', 'tokens of the vocabulary', number, defaults.vocab)
    .option('--width <n>', 'residual stream', number, defaults.width)
    .option('--mlp-width <n>', 'MLP', number, defaults.mlpWidth)
    .option('--layers <n>', 'layers', number, defaults.layers)
    .option('--heads <n>', 'query heads', number, defaults.heads)
    .option('--kv-heads <n>', 'key heads', number, defaults.kvHeads)
    .option('--capacity <n>', 'tokens that the cache has room for', number, defaults.capacity)
    .option(
      '--adapter-rank <n>',
      'of four experts together, on gate, up and down; 0 is none',
      whole,
      defaults.adapterRank,
    )
    .option('--seed <n>', 'of the random weights', number, defaults.seed);
}

function shapeOf(flags: Shape): Shape {
  const { vocab, width, mlpWidth, layers, heads, kvHeads, capacity, adapterRank, seed } = flags;
  return { vocab, width, mlpWidth, layers, heads, kvHeads, capacity, adapterRank, seed };
}

/** The table for a person, or all of it on standard output where nothing else was asked for. */
async function write(
  name: string,
  result: BenchResult,
  { json, docs }: OutputFlags,
  everything: unknown,
): Promise<void> {
  if (json === undefined && docs === undefined && everything !== result) {
    console.log(JSON.stringify(everything, null, 2));
    return;
  }
  console.table(result.rows);
  if (json !== undefined) await writeFile(json, `${JSON.stringify(result, null, 2)}\n`);
  if (docs === undefined) return;
  const { writeDocs } = await import('./report.ts');
  await writeDocs(docs, name, result);
}

function number(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new InvalidArgumentError('a whole number above 0');
}

function whole(text: string): number {
  return text === '0' ? 0 : number(text);
}

function numbers(text: string): number[] {
  return text.split(',').map(number);
}

function names(text: string): EngineName[] {
  const asked = text.split(',').map((name) => {
    const found = engines.find((engine) => engine === name);
    if (found === undefined) throw new InvalidArgumentError(`one of ${engines.join(', ')}`);
    return found;
  });
  return ['ours', ...asked.filter((name) => name !== 'ours')];
}
