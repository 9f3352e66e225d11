import { expect, test } from 'vitest';
import { isSend, isStop, type KeyPress } from './keys.ts';

const press = (changes: Partial<KeyPress>): KeyPress => ({
  key: 'Enter',
  shiftKey: false,
  ctrlKey: false,
  altKey: false,
  metaKey: false,
  isComposing: false,
  keyCode: 13,
  ...changes,
});

test('Enter sends', () => {
  expect(isSend(press({}))).toBe(true);
});

test.each([
  ['Shift+Enter, a new line', press({ shiftKey: true })],
  ['Ctrl+Enter', press({ ctrlKey: true })],
  ['Enter while an input method composes', press({ isComposing: true })],
  ['Enter that an input method has taken', press({ keyCode: 229 })],
  ['a letter', press({ key: 'a', keyCode: 65 })],
])('%s does not send', (_, key) => {
  expect(isSend(key)).toBe(false);
});

test('Escape stops, but not while an input method composes', () => {
  expect(isStop(press({ key: 'Escape', keyCode: 27 }))).toBe(true);
  expect(isStop(press({ key: 'Escape', isComposing: true }))).toBe(false);
  expect(isStop(press({ key: 'Escape', keyCode: 229 }))).toBe(false);
});
