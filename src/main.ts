import { mount } from 'svelte';
import { clearConversation, loadConversation, saveConversation } from './store/records.ts';
import App from './ui/App.svelte';
import { backendOf } from './ui/backend-choice.ts';
import { modelFolder } from './ui/model-folder.ts';
import { leaveRiskWithPage } from './ui/risk.ts';
import './ui/style.css';
import { startEngine } from './worker/client.ts';

const target = document.getElementById('app');
if (!target) throw new Error('index.html has no element #app');

leaveRiskWithPage(globalThis);
const engine = startEngine();
// A probe for tests: what the worker counted, to hold it to its word.
Object.assign(globalThis, { pediatricsgpt: { counts: () => engine.counts() } });

mount(App, {
  target,
  props: {
    options: {
      engine,
      records: { load: loadConversation, save: saveConversation, clear: clearConversation },
      folder: () => modelFolder(location.href),
      backend: backendOf(location.href),
      languages: navigator.languages,
    },
  },
});
