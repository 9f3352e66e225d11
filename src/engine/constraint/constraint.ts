import { Failure } from '../../failure.ts';
import type { Tokenizer } from '../../text/tokenizer.ts';
import type { OutputFormat } from '../../worker/api.ts';

/** What one answer may consist of, token by token. */
export interface Constraint {
  /** Bit t % 32 of word t / 32: whether token t may come next. Valid until the next call. */
  allowed(): Promise<Int32Array>;
  /** Takes the token that was chosen. */
  accept(token: number): void;
  dispose(): void;
}

/** Makes constraints for one vocabulary. */
export interface Constrainer {
  /** @throws Failure Usage where the schema or the expression cannot be used */
  constrain(format: OutputFormat): Promise<Constraint>;
}

/** Whether a token's bit is set. */
export function isAllowed(allowed: Int32Array, token: number): boolean {
  return (((allowed[token >>> 5] ?? 0) >>> (token & 31)) & 1) === 1;
}

/**
 * The pieces of a vocabulary as the grammar library reads them: letters for bytes where the
 * tokenizer is byte-level, else text, and <0x..> for a byte; '' for special tokens.
 */
export function piecesOf(tokenizer: Tokenizer): string[] {
  return Array.from({ length: tokenizer.vocab }, (_, id) => {
    const meaning = tokenizer.meaning(id);
    const piece = tokenizer.byteLevelPiece(id);
    if (piece !== null) return meaning === '' ? '' : piece;
    if (typeof meaning === 'string') return meaning.replaceAll(' ', '▁');
    return `<0x${(meaning[0] ?? 0).toString(16).toUpperCase().padStart(2, '0')}>`;
  });
}

const LONGEST_PATTERN = 10_000;

/** Says early what is no format. @throws Failure Usage */
export function checkFormat(format: OutputFormat): void {
  if (format.kind === 'regex') {
    try {
      new RegExp(format.pattern, 'u');
    } catch (cause) {
      throw new Failure('Usage', `no regular expression: ${format.pattern}`, { cause });
    }
    if (format.pattern.length > LONGEST_PATTERN) {
      throw new Failure('Usage', `an expression of ${format.pattern.length} characters`);
    }
    return;
  }
  const schema: unknown = format.schema;
  if (typeof schema !== 'object' || schema === null || Array.isArray(schema)) {
    throw new Failure('Usage', 'a JSON schema is an object');
  }
}
