import './offline/close-boundary.ts';
import { mount } from 'svelte';
import { startOffline } from './offline/register.ts';
import App from './ui/App.svelte';
import { backendOf } from './ui/backend-choice.ts';
import { browserRecords } from './ui/consult/records.ts';
import { firstEnglish } from './ui/language.svelte.ts';
import { modelFolder } from './ui/model-folder.ts';
import { risk } from './ui/risk.ts';
import './ui/style.css';
import { startEngine } from './worker/client.ts';

const target = document.getElementById('app');
if (!target) throw new Error('index.html has no element #app');

risk.follow(globalThis);
const engine = startEngine();
// A probe for tests: what the worker counted, to hold it to its word.
Object.assign(globalThis, { pediatricsgpt: { counts: () => engine.counts() } });

// A development server has no service worker.
const offline = import.meta.env.DEV ? null : startOffline(window);

const english = await firstEnglish(navigator.languages);
target.replaceChildren(); // what index.html says where this script does not come
mount(App, {
  target,
  props: {
    options: {
      engine,
      models: engine.models,
      records: browserRecords(),
      folder: () => modelFolder(location.href),
      backend: backendOf(location.href),
      languages: navigator.languages,
      english,
    },
    ...offline,
  },
});
