import type { Command } from 'commander';
import type { Terminal } from './cli.ts';
import { examples } from './cli-tools.ts';
import { compareRecipes, comparedLines } from './compare.ts';
import type { Progress } from './progress.ts';
import { readRecipe, shippedRecipes } from './recipe.ts';

interface CompareFlags {
  readonly adapter?: string;
  readonly recipe: readonly string[];
  readonly text?: string;
}

export function addCompareRecipes(program: Command, terminal: Terminal, progress: Progress): void {
  program
    .command('compare-recipes')
    .description('say what recipes cost in bits and do to the next token; writes nothing')
    .argument('<checkpoint>', 'folder with config.json, floats, tokenizer.json ...; or a GGUF file')
    .option('--adapter <folder>', 'adapter_config.json, adapter_model ...')
    .option(
      '--recipe <recipe>',
      'a name or a file in .json; may stand several times (else: every recipe that has a name)',
      (one: string, before: readonly string[]) => [...before, one],
      [],
    )
    .option('--text <file>', 'held-out text, a paragraph in each line; else ours')
    .action(async (checkpoint: string, { adapter, recipe, text }: CompareFlags) => {
      const names = recipe.length > 0 ? recipe : await shippedRecipes();
      const rows = await compareRecipes({
        checkpoint,
        adapter: adapter ?? null,
        recipes: await Promise.all(names.map(readRecipe)),
        text: text ?? null,
        signal: terminal.signal,
        onProgress: progress.show,
      });
      progress.end();
      terminal.out(`${comparedLines(rows).join('\n')}\n`);
    })
    .addHelpText(
      'after',
      examples(
        'compare-recipes run/checkpoint --adapter run/adapter',
        'compare-recipes Qwen2.5-0.5B --recipe default --recipe mine.json --text held-out.txt',
      ),
    );
}
