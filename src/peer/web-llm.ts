/** A chunk of its own, fetched when an imported model is first loaded. */
export { MLCEngine } from '@mlc-ai/web-llm';
