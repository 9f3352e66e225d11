import type { ChatTemplate } from '../format/manifest.ts';
import type { Tokenizer } from './tokenizer.ts';

/** One message of one role, as the template sees it. */
export interface TemplateTurn {
  readonly role: 'user' | 'assistant';
  readonly text: string;
}

/**
 * Tokens of a conversation: the system text if there is one, then the turns. Prefix, content and
 * suffix are tokenised apart, so that a prompt starts with the tokens of the prompt before it,
 * and what a person types cannot reach into the template. An assistant turn ends with `endId`.
 */
export function encodeChat(
  tokenizer: Tokenizer,
  template: ChatTemplate,
  system: string,
  turns: readonly TemplateTurn[],
): number[] {
  const tokens: number[] = [];
  const add = (text: string): void => {
    for (const token of tokenizer.encode(text)) tokens.push(token);
  };
  const addPiece = (piece: { prefix: string; suffix: string }, text: string): void => {
    add(piece.prefix);
    add(text);
    add(piece.suffix);
  };
  if (system !== '') addPiece(template.system, system);
  let questions = 0;
  for (const turn of turns) {
    if (turn.role === 'user') {
      if (questions > 0) add(template.separator);
      questions += 1;
      addPiece(template.user, turn.text);
    } else {
      addPiece(template.assistant, turn.text);
      tokens.push(template.endId);
    }
  }
  return tokens;
}
