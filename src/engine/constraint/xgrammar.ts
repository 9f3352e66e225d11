import '@mlc-ai/web-xgrammar'; // an old-style script: it leaves `xgrammar` on the global object
import type * as XGrammar from '@mlc-ai/web-xgrammar';
import { Failure } from '../../failure.ts';
import type { Tokenizer } from '../../text/tokenizer.ts';
import type { OutputFormat } from '../../worker/api.ts';
import { checkFormat, piecesOf, type Constrainer, type Constraint } from './constraint.ts';

/**
 * Grammars by XGrammar (1.1 MB with its WebAssembly), which is why this file is only imported when
 * an answer asks for a format, as a chunk of its own.
 */
export async function openConstrainer(
  tokenizer: Tokenizer,
  stopIds: readonly number[],
): Promise<Constrainer> {
  const { xgrammar } = globalThis as { xgrammar?: typeof XGrammar };
  if (xgrammar === undefined) throw new Error('web-xgrammar has left nothing behind');
  const { TokenizerInfo, GrammarCompiler, GrammarMatcher } = xgrammar;
  const pieces = piecesOf(tokenizer);
  const info = await TokenizerInfo.createTokenizerInfo(
    pieces,
    tokenizer.byteLevelPiece(0) === null ? 'byte_fallback' : 'byte_level',
    false,
    pieces.length,
    [...stopIds],
  );
  const compiler = await GrammarCompiler.createGrammarCompiler(info);
  return {
    async constrain(format) {
      checkFormat(format);
      const grammar = await compiled(compiler, format);
      const matcher = await GrammarMatcher.createGrammarMatcher(grammar);
      return new Grammar(grammar, matcher);
    },
  };
}

async function compiled(
  compiler: XGrammar.GrammarCompiler,
  format: OutputFormat,
): Promise<XGrammar.CompiledGrammar> {
  try {
    if (format.kind === 'regex') {
      const regex = { type: 'regex', pattern: format.pattern } as const;
      return await compiler.compileStructuralTag({ type: 'structural_tag', format: regex });
    }
    // One way of writing: no free white space, in which a small model gets lost.
    const schema = JSON.stringify(format.schema);
    return await compiler.compileJSONSchema(schema, false, -1, [',', ':'], true);
  } catch (cause) {
    const what = format.kind === 'regex' ? 'regular expression' : 'JSON schema';
    throw new Failure('Usage', `this ${what} cannot be used to constrain an answer`, { cause });
  }
}

class Grammar implements Constraint {
  readonly #grammar: XGrammar.CompiledGrammar;
  readonly #matcher: XGrammar.GrammarMatcher;

  constructor(grammar: XGrammar.CompiledGrammar, matcher: XGrammar.GrammarMatcher) {
    this.#grammar = grammar;
    this.#matcher = matcher;
  }

  allowed(): Promise<Int32Array> {
    return this.#matcher.getNextTokenBitmask();
  }

  accept(token: number): void {
    if (!this.#matcher.acceptToken(token)) {
      throw new Error(`token ${token} does not fit the format, and was chosen`);
    }
  }

  dispose(): void {
    this.#matcher.dispose();
    this.#grammar.dispose();
  }
}
