import { fileURLToPath } from 'node:url';
import type { Browser, Page } from '@playwright/test';
import { addressesIn, writeMlcFolder } from './mlc-folder.ts';
import { checkAdapter, readMlcLibrary, type MlcLibrary } from './mlc-library.ts';
import { mlcRows } from './mlc-rows.ts';
import { modelOf, type AskedShape } from './mlc-shape.ts';
import { ANSWER, MlcTurns, saying, STEPS, there, type Tabs } from './mlc-turns.ts';
import { buildPage, cache, describe, launch, parameters } from './page-run.ts';
import { randomPackage, type Shape } from './random-model.ts';
import type { BenchResult } from './rows.ts';
import { serve } from './server.ts';

/** Our engine against web-llm with a library that somebody compiled, both with random weights. */

export interface MlcOptions {
  readonly library: string; // path of a *-webgpu.wasm
  readonly tokenizer?: string | undefined; // path of a tokenizer.json
  readonly asked: AskedShape;
  readonly capacity: number;
  readonly seed: number;
  readonly contexts: readonly number[]; // tokens before decode steps
  readonly promptTokens: number;
  /** At most; none is begun that would end later than `minutes` after the first. */
  readonly repetitions: number;
  readonly minutes: number;
  readonly hardware: boolean;
  readonly command: string;
  readonly log: (line: string) => void;
}

const TOKENIZER = fileURLToPath(
  new URL('../../public/models/nano/tokenizer.json', import.meta.url),
);

/** @throws Error for a library that is not understood or not for this GPU, before weights are made */
export async function benchMlc(options: MlcOptions): Promise<BenchResult> {
  const { asked, capacity, seed, hardware, log } = options;
  const library = await readMlcLibrary(options.library);
  const { metadata } = library;
  const model = modelOf(metadata, asked);
  checkRoom(options, metadata);
  const total = model.tensors.reduce((sum, { bytes }) => sum + bytes, 0);
  const largest = Math.max(...model.tensors.map(({ bytes }) => bytes));
  const shape: Shape = { ...model.shape, capacity, adapterRank: 0, seed };
  log(
    `${library.name}: ${metadata.model_type}, ${metadata.quantization}, ${total} bytes of weights`,
  );
  log(JSON.stringify(model.shape));
  for (const note of model.notes) log(note);

  const page = await buildPage();
  const browser = await launch(hardware);
  try {
    const machine = await describe(browser, '@mlc-ai/web-llm');
    const { peer = '' } = machine;
    checkAdapter(library, await adapterOf(browser, page), largest);
    const { tokenizer = TOKENIZER } = options;
    // No gigabytes are written for a library that cannot start.
    const start = (folder: string): Promise<void> =>
      alone(browser, { '': page, mlc: folder }, async (tab, url) => {
        const options = { ...addressesIn(`${url}mlc/`), vocab: shape.vocab };
        const starting = tab.evaluate((one) => webLlm?.check(one), options);
        await saying(peer, library.name, starting);
        log('random weights');
      });
    const about = { library, model, seed, capacity, tokenizer };
    const root = await writeMlcFolder(cache, about, start);
    const packageFolder = await randomPackage(cache, shape);
    const server = await serve({ '': page, package: packageFolder, mlc: root });
    try {
      const run = new MlcTurns(await open(browser, server.url), options, shape);
      Object.assign(machine, await run.load(peer, library.name));
      const samples = await run.measure();
      return {
        date: new Date().toISOString(),
        machine,
        model: {
          ...shape,
          parameters: parameters(shape),
          quantization: metadata.quantization,
          'bytes of its weights': total,
          outputs:
            'not compared: other weights, in other 4 bits; web-llm wrote every token that was asked for, its probabilities finite',
          ...(model.notes.length === 0 ? {} : { notes: model.notes.join('; ') }),
        },
        command: options.command,
        differences: {},
        rows: mlcRows(
          samples,
          options,
          `${peer} (${library.name}, sha256 ${library.sha256.slice(0, 12)})`,
        ),
        samples,
      };
    } finally {
      await server.close();
    }
  } finally {
    await browser.close();
  }
}

/** Whether what is measured goes into the caches. */
function checkRoom(
  { contexts, promptTokens, capacity }: MlcOptions,
  metadata: MlcLibrary['metadata'],
): void {
  const most = Math.max(promptTokens + ANSWER, ...contexts.map((tokens) => tokens + STEPS));
  const { context_window_size: window, sliding_window_size: slide } = metadata;
  const theirs = slide === -1 ? window : slide;
  for (const [what, room] of [
    ['--capacity', capacity],
    ["the library's window", theirs === -1 ? capacity : theirs],
  ] as const) {
    if (most <= room) continue;
    throw new Error(
      `${what} of ${room} tokens has no room for ${most}: shorten --contexts, --prompt`,
    );
  }
  if (slide === -1 && window !== -1 && capacity > window) {
    throw new Error(`--capacity ${capacity} is above the library's window of ${window} tokens`);
  }
}

async function adapterOf(browser: Browser, page: string) {
  return alone(browser, { '': page }, async (tab) =>
    there(await tab.evaluate(() => webLlm?.adapter())),
  );
}

/** Something on a page that is closed afterwards, and what is served with it. */
async function alone<T>(
  browser: Browser,
  folders: Readonly<Record<string, string>>,
  use: (tab: Page, url: string) => Promise<T>,
): Promise<T> {
  const server = await serve(folders);
  try {
    const tab = await browser.newPage();
    await tab.goto(server.url);
    const result = await use(tab, server.url);
    await tab.close();
    return result;
  } finally {
    await server.close();
  }
}

async function open(browser: Browser, url: string): Promise<Tabs> {
  const tab = async (): Promise<Page> => {
    const page = await browser.newPage();
    await page.goto(url);
    return page;
  };
  return { url, ours: await tab(), peer: await tab() };
}
