/** What shows an answer with its form: a chunk of its own, fetched with the first answer. */
export { default as Blocks } from './Blocks.svelte';
export { readMarkdown } from './markdown.ts';
