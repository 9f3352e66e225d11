import { render } from 'svelte/server';
import { beforeEach, expect, test, vi } from 'vitest';
import { Failure, failureNames } from '../failure.ts';
import App from './App.svelte';
import EmergencyBanner from './EmergencyBanner.svelte';
import { Alarm } from './alarm.svelte.ts';
import FailureNote from './FailureNote.svelte';
import { Language } from './language.svelte.ts';
import NoGpu from './NoGpu.svelte';
import SettingsPanel from './SettingsPanel.svelte';
import { FakeEngine, type Script } from './testing/fake-engine.ts';
import { FakeRecords } from './testing/fake-records.ts';
import { FakeStorage } from './testing/fake-storage.ts';
import Transcript from './Transcript.svelte';
import { troubleOf } from './trouble.ts';
import { Workspace } from './workspace.svelte.ts';
import { en } from './words/en.ts';
import { zh } from './words/zh.ts';

beforeEach(() => {
  vi.stubGlobal('localStorage', new FakeStorage());
  vi.stubGlobal('requestAnimationFrame', (run: () => void) => setTimeout(run, 0));
});

function options(script: Script = {}, languages = ['zh-CN']) {
  return {
    engine: new FakeEngine(script),
    records: new FakeRecords(),
    folder: () => 'http://localhost/models/nano/',
    languages,
    english: en,
  };
}

test('the page before anything is loaded has its notice, tasks and composer', () => {
  const { body } = render(App, { props: { options: options() } });
  expect(body).toContain(zh.notice.long);
  expect(body).toContain(zh.notice.short);
  for (const id of ['task-medkqa', 'task-evidiag', 'task-trerecom', 'composer', 'send', 'notice']) {
    expect(body).toContain(`data-testid="${id}"`);
  }
  expect(body).toContain('data-testid="load-progress"');
  expect(body).toMatch(/role="log" aria-live="off"/);
  expect(body).toMatch(/role="status" aria-live="polite"/);
  expect(body).not.toContain('emergency-banner');
});

test('nothing on the page is styled or scripted inline: the policy forbids it', () => {
  const { body } = render(App, { props: { options: options() } });
  expect(body).not.toMatch(/ style="| onclick="|javascript:/);
});

test('a browser in English gets English', () => {
  const { body } = render(App, { props: { options: options({}, ['en-US']) } });
  expect(body).toContain(en.notice.long);
});

test.each([...failureNames, 'Bug'] as const)(
  '%s is told in both languages, without a stack',
  (name) => {
    vi.spyOn(console, 'error').mockImplementation(() => undefined);
    const error =
      name === 'Bug' ? new TypeError('inner detail') : new Failure(name, 'inner detail');
    const trouble = troubleOf(error);
    for (const [tag, words] of [['zh', zh] as const, ['en', en] as const]) {
      const language = new Language([tag], en);
      localStorage.clear();
      const { body } = render(FailureNote, {
        props: { trouble, language, onretry: () => undefined },
      });
      expect(body).toContain(`data-failure="${name}"`);
      expect(body).toContain(words.failure[name].title);
      expect(body).not.toContain('inner detail');
      expect(body.includes(trouble.code)).toBe(name === 'Bug');
    }
  },
);

test('without WebGPU the page says what to do in both languages', () => {
  const { body } = render(NoGpu, { props: { oncpu: () => undefined } });
  for (const words of [zh.noGpu, en.noGpu]) {
    for (const text of Object.values(words)) expect(body).toContain(text);
  }
  expect(body).toContain('data-failure="NoWebGpu"');
  expect(body).toContain('chrome://gpu');
});

test('the emergency banner is an alert that says 120, the signs and what to do', () => {
  const language = new Language(['zh-CN']);
  const alarm = new Alarm(() => ['孩子抽搐，嘴唇发紫']);
  const open = render(EmergencyBanner, { props: { alarm, language } }).body;
  expect(open).toMatch(/data-testid="emergency-banner"[^>]*role="alert"/);
  expect(open).toContain('href="tel:120"');
  expect(open).toContain('data-sign="convulsion"');
  expect(open).toContain('data-sign="cyanosis"');
  alarm.acknowledge();
  const folded = render(EmergencyBanner, { props: { alarm, language } }).body;
  expect(folded).toContain('data-state="folded"');
  expect(folded).toContain('120');
  expect(folded).not.toContain('role="alert"');
});

test('every answer carries its label, and what the model writes stays text', async () => {
  const script = { answers: [['第一段\n', '<img src=x onerror=alert(1)>\n\n第三段']] };
  const workspace = new Workspace(options(script));
  await workspace.start();
  workspace.chat.draft = '问';
  await workspace.send();
  const { body } = render(Transcript, { props: { workspace, onexample: () => undefined } });
  expect(body).toContain('data-testid="turn-user"');
  expect(body).toMatch(/data-testid="turn-assistant" data-state="done"/);
  expect(body).toContain(zh.chat.aiLabel);
  expect(body).not.toContain('<img src=x');
  expect(body).toContain('&lt;img');
  expect(body.match(/第一段|第三段/g)).toHaveLength(2);
  expect(body).toContain('data-testid="copy"');
  expect(body).toContain('data-testid="regenerate"');
  expect(body).toContain('12.3');
});

test.each([
  ['zh-CN', zh, '模型没有看到最早的 3 个问题', '约还要 4 秒'],
  ['en-US', en, 'did not see the oldest questions (3)', 'about 4 s left'],
])(
  '%s: says what the model was not given, and how long reading takes',
  async (tag, words, dropped, left) => {
    let midway = '';
    const show = (): string =>
      render(Transcript, { props: { workspace, onexample: () => undefined } }).body;
    const script: Script = {
      answers: [['好']],
      droppedQuestions: 3,
      recoveries: ['DeviceLost'],
      pause: async () => {
        await new Promise((resolve) => setTimeout(resolve, 5)); // a frame
        midway ||= show();
      },
    };
    const workspace = new Workspace(options(script, [tag]));
    await workspace.start();
    workspace.chat.draft = '问';
    await workspace.send();
    expect(midway).toContain(left);
    expect(midway).not.toContain('data-testid="dropped"');
    expect(midway).not.toContain(words.chat.recovered);
    expect(show()).toContain(words.chat.recovered);
    expect(show()).toContain(dropped);
  },
);

test('the page says what computes, and the settings offer three ways', async () => {
  const info = { backend: 'onnx', adapter: 'CPU, runtime 1, 2 threads' } as const;
  const workspace = new Workspace(options({ info }));
  await workspace.start();
  const props = { workspace };
  const page = render(Transcript, { props: { ...props, onexample: () => undefined } }).body;
  expect(page).toContain('data-backend="onnx"');
  expect(page).toContain(zh.load.runs.onnx);
  const panel = render(SettingsPanel, { props }).body;
  for (const choice of ['auto', 'webgpu', 'cpu'] as const) {
    expect(panel).toContain(`data-testid="setting-backend-${choice}"`);
    expect(panel).toContain(zh.settings.backends[choice]);
  }
  expect(panel).toMatch(/setting-backend-auto"[^>]* checked/);
});
