import { vitePreprocess } from '@sveltejs/vite-plugin-svelte';

export default {
  preprocess: vitePreprocess(),
  // Nodes are built one by one: HTML is never made from text, which the page's policy forbids.
  compilerOptions: { fragments: 'tree' },
};
