import type { ChatTemplate } from '../format/manifest.ts';
import type { Tokenizer } from './tokenizer.ts';

/** One message of one role, as the template sees it. */
export interface TemplateTurn {
  readonly role: 'user' | 'assistant';
  readonly text: string;
}

/** Tokens of a conversation in the parts that it is put together from. */
export interface ChatParts {
  readonly system: readonly number[]; // empty without a system text
  readonly separator: readonly number[]; // before every question but the first
  readonly turns: readonly {
    readonly role: TemplateTurn['role'];
    readonly tokens: readonly number[];
  }[];
}

/**
 * Prefix, content and suffix are tokenised apart, so that a prompt starts with the tokens of the
 * prompt before it, and what a person types cannot reach into the template. An assistant turn
 * ends with `endId`.
 */
export function encodeParts(
  tokenizer: Tokenizer,
  template: ChatTemplate,
  system: string,
  turns: readonly TemplateTurn[],
): ChatParts {
  const piece = ({ prefix, suffix }: { prefix: string; suffix: string }, text: string) => [
    ...tokenizer.encodeTemplate(prefix),
    ...tokenizer.encode(text),
    ...tokenizer.encodeTemplate(suffix),
  ];
  return {
    system: system === '' ? [] : piece(template.system, system),
    separator: tokenizer.encodeTemplate(template.separator),
    turns: turns.map(({ role, text }) => ({
      role,
      tokens:
        role === 'user'
          ? piece(template.user, text)
          : [...piece(template.assistant, text), template.endId],
    })),
  };
}

/** Tokens of a conversation: the system text if there is one, then the turns of these numbers. */
export function joinParts(
  { system, separator, turns }: ChatParts,
  kept: readonly number[] = turns.map((_, i) => i),
): number[] {
  const tokens = [...system];
  let questions = 0;
  for (const i of kept) {
    const turn = turns[i];
    if (turn === undefined) throw new RangeError(`there is no turn ${i}`);
    if (turn.role === 'user' && questions++ > 0) tokens.push(...separator);
    for (const token of turn.tokens) tokens.push(token);
  }
  return tokens;
}

/** All of a conversation in tokens. */
export function encodeChat(
  tokenizer: Tokenizer,
  template: ChatTemplate,
  system: string,
  turns: readonly TemplateTurn[],
): number[] {
  return joinParts(encodeParts(tokenizer, template, system, turns));
}
