import { Lexer, type Token, type Tokens } from 'marked';

/**
 * A small part of Markdown as plain data. HTML stays the text that it is, an image is its words, a
 * link is its words and the name of its host: nothing here can load or lead anywhere.
 */

export type Inline =
  | { readonly kind: 'text' | 'code'; readonly text: string }
  | { readonly kind: 'strong' | 'em' | 'del'; readonly parts: readonly Inline[] };

export type Block =
  | { readonly kind: 'line' | 'heading'; readonly parts: readonly Inline[] }
  | { readonly kind: 'code'; readonly text: string }
  | { readonly kind: 'quote'; readonly blocks: readonly Block[] }
  | { readonly kind: 'rule' }
  | {
      readonly kind: 'list';
      readonly start: number | null; // the first number of an ordered list
      readonly items: readonly (readonly Block[])[];
    }
  | {
      readonly kind: 'table';
      readonly head: readonly (readonly Inline[])[];
      readonly rows: readonly (readonly (readonly Inline[])[])[];
    };

/** Deeper than any answer means it: what is below stays plain text. */
const DEEPEST = 8;

/** Reads a text, whole or still growing. Every line break is one, as a model that types means it. */
export function readMarkdown(text: string): readonly Block[] {
  // Control characters have no place in a text, and some would hide in it.
  // eslint-disable-next-line no-control-regex -- they are what is taken out
  const clean = text.replace(/[\u0000-\u0008\u000B-\u001F\u007F\u202A-\u202E\u2066-\u2069]/g, '');
  return blocks(new Lexer({ gfm: true, breaks: true }).lex(clean), 0);
}

function blocks(tokens: readonly Token[], depth: number): Block[] {
  return tokens.flatMap((token) => block(token, depth));
}

function block(token: Token, depth: number): Block[] {
  if (depth > DEEPEST) return plainLines(token.raw);
  switch (token.type) {
    case 'space':
    case 'def': // a link's address: nothing to read
      return [];
    case 'hr':
      return [{ kind: 'rule' }];
    case 'code':
      return [{ kind: 'code', text: (token as Tokens.Code).text }];
    case 'heading':
      return [{ kind: 'heading', parts: inlines(children(token), depth) }];
    case 'blockquote':
      return [{ kind: 'quote', blocks: blocks(children(token), depth + 1) }];
    case 'list': {
      const { ordered, start, items } = token as Tokens.List;
      return [
        {
          kind: 'list',
          start: ordered ? Number(start) || 1 : null,
          items: items.map((item) => blocks(item.tokens, depth + 1)),
        },
      ];
    }
    case 'table': {
      const { header, rows } = token as Tokens.Table;
      const cells = (row: readonly Tokens.TableCell[]) =>
        row.map((cell) => inlines(cell.tokens, depth));
      return [{ kind: 'table', head: cells(header), rows: rows.map(cells) }];
    }
    case 'paragraph':
    case 'text':
      return lines(children(token), token.raw, depth);
    default: // HTML, and whatever a later edition of the reader knows
      return plainLines(token.raw);
  }
}

/** A paragraph, one line of it after the other. */
function lines(tokens: readonly Token[], raw: string, depth: number): Block[] {
  if (tokens.length === 0) return plainLines(raw);
  const rows: Token[][] = [[]];
  for (const token of tokens) {
    if (token.type === 'br') rows.push([]);
    else rows.at(-1)?.push(token);
  }
  return rows
    .map((row) => inlines(row, depth))
    .filter((parts) => wordsOf(parts).trim() !== '')
    .map((parts) => ({ kind: 'line', parts }));
}

function plainLines(raw: string): Block[] {
  return raw
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => ({ kind: 'line', parts: [{ kind: 'text', text: line.trim() }] }));
}

function inlines(tokens: readonly Token[], depth: number): Inline[] {
  return tokens.flatMap((token): Inline[] => {
    if (depth > DEEPEST) return [{ kind: 'text', text: token.raw }];
    switch (token.type) {
      case 'strong':
      case 'em':
      case 'del':
        return [{ kind: token.type, parts: inlines(children(token), depth + 1) }];
      case 'codespan':
        return [{ kind: 'code', text: (token as Tokens.Codespan).text }];
      case 'escape':
        return [{ kind: 'text', text: (token as Tokens.Escape).text }];
      case 'br':
        return [{ kind: 'text', text: ' ' }];
      case 'image':
        return [{ kind: 'text', text: (token as Tokens.Image).text }];
      case 'link': {
        const { href } = token as Tokens.Link;
        const parts = inlines(children(token), depth + 1);
        const host = hostOf(href);
        const isNamed = host === '' || wordsOf(parts).includes(host);
        return isNamed ? parts : [...parts, { kind: 'text', text: ` (${host})` }];
      }
      case 'text': {
        const inner = children(token);
        return inner.length > 0
          ? inlines(inner, depth + 1)
          : [{ kind: 'text', text: unescapeEntities(token.raw) }];
      }
      default:
        return [{ kind: 'text', text: token.raw }];
    }
  });
}

/** The words of inline parts, without their form. */
export function wordsOf(parts: readonly Inline[]): string {
  return parts.map((part) => ('text' in part ? part.text : wordsOf(part.parts))).join('');
}

const children = (token: Token): readonly Token[] =>
  'tokens' in token ? (token.tokens ?? []) : [];

function hostOf(href: string): string {
  return URL.canParse(href) ? new URL(href).host : '';
}

/** The five entities that models write out of habit; they end as text nodes in any case. */
function unescapeEntities(text: string): string {
  const known = { amp: '&', lt: '<', gt: '>', quot: '"', nbsp: ' ' } as const;
  return text.replace(/&(amp|lt|gt|quot|nbsp);/g, (_, name: keyof typeof known) => known[name]);
}
