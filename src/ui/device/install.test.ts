import { expect, test, vi } from 'vitest';
import { installHint, InstallPrompt } from './install.svelte.ts';

function offer(outcome: 'accepted' | 'dismissed') {
  const event = new Event('beforeinstallprompt', { cancelable: true });
  return Object.assign(event, { prompt: vi.fn(() => Promise.resolve({ outcome })) });
}

test('an offer is kept for when the person wants it', async () => {
  const window = new EventTarget();
  const prompt = new InstallPrompt();
  const end = prompt.follow(window);
  expect(prompt.canInstall).toBe(false);
  await prompt.install();
  const made = offer('accepted');
  window.dispatchEvent(made);
  expect(made.defaultPrevented).toBe(true);
  expect(prompt.canInstall).toBe(true);
  await prompt.install();
  expect(made.prompt).toHaveBeenCalledOnce();
  expect(prompt.canInstall).toBe(false);
  window.dispatchEvent(new Event('appinstalled'));
  expect(prompt.isInstalled).toBe(true);
  end();
  window.dispatchEvent(offer('accepted'));
  expect(prompt.canInstall).toBe(false);
});

test('who says no may say yes later', async () => {
  const window = new EventTarget();
  const prompt = new InstallPrompt();
  prompt.follow(window);
  window.dispatchEvent(offer('dismissed'));
  await prompt.install();
  expect(prompt.canInstall).toBe(false); // that offer is used up
  window.dispatchEvent(offer('accepted'));
  expect(prompt.canInstall).toBe(true);
});

test.each([
  ['Mozilla/5.0 (iPhone; CPU iPhone OS 18_4 like Mac OS X) Safari/604.1', 'ios'],
  ['Mozilla/5.0 (Android 14; Mobile; rv:142.0) Gecko/142.0 Firefox/142.0', 'firefox'],
  ['Mozilla/5.0 (Linux; Android 14) Chrome/156.0 Mobile Safari/537.36', null],
])('%s', (agent, hint) => expect(installHint(agent)).toBe(hint));
