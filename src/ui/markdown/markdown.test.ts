import fc from 'fast-check';
import { render } from 'svelte/server';
import { expect, test } from 'vitest';
import Blocks from './Blocks.svelte';
import { type Block, readMarkdown } from './markdown.ts';
import { payloads } from './payloads.ts';

const html = (text: string): string =>
  render(Blocks, { props: { blocks: readMarkdown(text) } }).body.replaceAll(/<!--.*?-->/gs, '');

/** Only these elements, and of attributes only what Svelte adds and where a list starts. */
const allowed =
  /<\/?(?:p|h4|pre|code|blockquote|hr|ul|ol|li|div|table|thead|tbody|tr|th|td|strong|em|del)(?: (?:class="[^"<>]*"|start="\d+"))*\s*\/?>/g;

test.each([
  ['两行\n就是两行', ['两行', '就是两行']],
  ['段落\n\n\n段落', ['段落', '段落']],
  ['  空格  \n', ['空格']],
  ['', []],
  ['\n\n', []],
])('%j is the lines %j', (text, lines) => {
  const found = readMarkdown(text).map((block) =>
    block.kind === 'line'
      ? block.parts.map((part) => ('text' in part ? part.text : '')).join('')
      : block.kind,
  );
  expect(found.map((line) => line.trim())).toEqual(lines);
});

test('what models write has its form', () => {
  const body = html(
    '# 护理\n1. **多喝水**\n2. 观察`体温`\n\n- 一\n- 二\n\n| 名 | 值 |\n|---|---|\n| 甲 | *乙* |\n\n> 引用\n\n---\n~~旧~~',
  );
  for (const part of [
    '<h4',
    '<ol start="1"',
    '<strong',
    '多喝水',
    '<code',
    '体温',
    '<ul',
    '<table',
    '<th',
    '<em',
    '<blockquote',
    '<hr',
    '<del',
  ]) {
    expect(body).toContain(part);
  }
});

test('an ordered list keeps its first number', () => {
  expect(html('3. 三\n4. 四')).toContain('<ol start="3"');
});

test.each(payloads)('%j ends as words', (text) => {
  const rest = html(text).replaceAll(allowed, '');
  expect(rest).not.toContain('<');
});

test('a link is its words and its host, an image its words', () => {
  expect(html('[看这里](https://evil.example/x)')).toContain('看这里 (evil.example)');
  expect(html('[evil.example](https://evil.example/x)')).not.toContain('(evil.example)');
  expect(html('![图](https://evil.example/x.png)')).toContain('图');
});

test('signs that hide or turn text around are taken out', () => {
  expect(html('正\u202E常\u0000')).toContain('正常');
});

test('any text, cut anywhere, stays inside the allowed elements and loses no word', () => {
  const word = fc.constantFrom(
    '发热',
    '**',
    '`',
    '1. ',
    '- ',
    '\n',
    '|',
    '<b>',
    '>',
    '# ',
    '[',
    '](',
    ')',
    '!',
    '&lt;',
    ' ',
    '3',
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 40 }), (words) => {
      const text = words.join('');
      expect(html(text).replaceAll(allowed, '')).not.toContain('<');
      const count = (from: string): number => from.split('发热').length - 1;
      // The address of a link, and what comes before a definition's end, is no text of the answer.
      if (!text.includes('](') && !text.includes('[')) expect(count(html(text))).toBe(count(text));
    }),
    { numRuns: 500 },
  );
});

test('a tower of quotes and lists ends somewhere', () => {
  const depth = (list: readonly Block[]): number =>
    1 +
    Math.max(
      0,
      ...list.map((block) =>
        block.kind === 'quote'
          ? depth(block.blocks)
          : block.kind === 'list'
            ? Math.max(0, ...block.items.map(depth))
            : 0,
      ),
    );
  expect(depth(readMarkdown(`${'> '.repeat(500)}x`))).toBeLessThan(12);
  expect(html(`${'*'.repeat(2000)}x${'*'.repeat(2000)}`)).toContain('x');
});
