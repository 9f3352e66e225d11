import { render } from 'svelte/server';
import { beforeEach, expect, test, vi } from 'vitest';
import { Failure, failureNames } from '../failure.ts';
import App from './App.svelte';
import EmergencyBanner from './EmergencyBanner.svelte';
import { Alarm } from './alarm.svelte.ts';
import FailureNote from './FailureNote.svelte';
import { Language } from './language.svelte.ts';
import LoadNotes from './LoadNotes.svelte';
import { Loader } from './loader.svelte.ts';
import NoGpu from './NoGpu.svelte';
import SettingsPanel from './SettingsPanel.svelte';
import { FakeEngine, type Script } from './testing/fake-engine.ts';
import { FakeLocks } from './testing/fake-locks.ts';
import { FakeRecords } from './testing/fake-records.ts';
import { FakeStorage } from './testing/fake-storage.ts';
import Transcript from './Transcript.svelte';
import { troubleOf } from './trouble.ts';
import { Workspace } from './workspace.svelte.ts';
import { en } from './words/en.ts';
import { noGpuEn, noGpuZh } from './words/no-gpu.ts';
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
  for (const words of [noGpuZh, noGpuEn]) {
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

const f16 = { from: 'WebGPU f16', because: 'WrongNumbers' } as const;

test.each([
  [
    ['zh-CN'],
    { backend: 'onnx', fellBack: [f16, { from: 'WebGPU f32', because: 'DeviceLimit' }] },
    '先在显卡上试过而没有采用：WebGPU f16 算出的结果不对；WebGPU f32 显存不够。现在：处理器计算。',
  ],
  [
    ['en-US'],
    { backend: 'onnx', fellBack: [f16, { from: 'WebGPU f32', because: 'DeviceLimit' }] },
    'Tried first on the graphics device and left: WebGPU f16 computed wrong numbers; WebGPU f32 has not enough memory. The model now runs on the processor.',
  ],
  [
    ['zh-CN'],
    { backend: 'wgsl', variant: 'f32', fellBack: [f16] },
    'WebGPU f16 算出的结果不对。现在：显卡计算（WebGPU） · f32。',
  ],
  [
    ['en-US'],
    { backend: 'wgsl', variant: 'f32', fellBack: [f16] },
    'WebGPU f16 computed wrong numbers. The model now runs on the graphics device (WebGPU) · f32.',
  ],
  [
    ['zh-CN'],
    { fellBack: [{ from: 'WebGPU f32 int8', because: 'WrongNumbers' }] },
    'WebGPU f32 int8 不够精确。',
  ],
  [
    ['en-US'],
    { fellBack: [{ from: 'WebGPU f32 int8', because: 'WrongNumbers' }] },
    'WebGPU f32 int8 was not exact enough.',
  ],
  [
    ['zh-CN'],
    { backend: 'onnx', fellBack: [{ from: 'WebGPU f16', because: 'DeviceLost' }] },
    'WebGPU f16 中途停止了工作',
  ],
  [
    ['en-US'],
    { backend: 'onnx', fellBack: [{ from: 'WebGPU', because: 'NoWebGpu' }] },
    'WebGPU is not supported here',
  ],
] as const)('%s: a fallback is one sentence, %o', async (tags, info, sentence) => {
  const loader = new Loader(new FakeEngine({ info }), () => '/models/nano/');
  await loader.start();
  const language = new Language(tags, en);
  const { body } = render(LoadNotes, { props: { loader, language } });
  expect(body).toContain('data-testid="fell-back"');
  expect(body).toContain(sentence);
  expect(body).not.toContain('data-testid="careful"');
});

test('without a fallback nothing is said of one, and a load that failed says only what died', async () => {
  const language = new Language(['zh-CN'], en);
  const show = (loader: Loader): string => render(LoadNotes, { props: { loader, language } }).body;
  const usual = new Loader(new FakeEngine(), () => '/models/nano/');
  await usual.start();
  expect(show(usual)).not.toContain('<p');
  const error = new Failure('WorkerLost', 'inner detail');
  const failed = new Loader(new FakeEngine({ openFailures: [error] }), () => '/models/nano/');
  await failed.start();
  expect(show(failed)).toContain('data-care="careful"');
  expect(show(failed)).not.toContain('fell-back');
  expect(show(failed)).not.toContain('inner detail');
});

test.each([
  ['zh-CN', '已由另一版本取代'],
  ['en-US', 'Another edition has taken the place'],
])('%s: another edition in the place of the chosen one is told', async (tag, words) => {
  const info = { insteadKey: 'nano@1111111111111111' };
  const loader = new Loader(new FakeEngine({ info }), () => '/models/nano/');
  await loader.start();
  const language = new Language([tag], en);
  const { body } = render(LoadNotes, { props: { loader, language } });
  expect(body).toContain('data-testid="other-edition"');
  expect(body).toContain(words);
});

test.each([
  ['zh-CN', 'load usual', '加载模型时页面意外关闭', '占内存较少'],
  ['zh-CN', 'answer careful', '回答时页面意外关闭', '处理器'],
  ['en-US', 'compare usual', 'while models were compared', 'with less memory'],
  ['en-US', 'answer careful', 'during an answer', 'on the processor'],
])(
  '%s: after a page that died (%s) what died and what is done is said',
  async (tag, mark, ...said) => {
    vi.stubGlobal('navigator', { locks: new FakeLocks() });
    localStorage.setItem('pediatricsgpt.risk.dead', mark);
    const loader = new Loader(new FakeEngine(), () => '/models/nano/');
    await loader.start();
    const language = new Language([tag], en);
    const { body } = render(LoadNotes, { props: { loader, language } });
    for (const words of said) expect(body).toContain(words);
    expect(body).toContain('data-testid="load-usual"');
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
