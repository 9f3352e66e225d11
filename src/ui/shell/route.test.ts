import { expect, test } from 'vitest';
import { hrefOf, Route, screenOf, screens } from './route.svelte.ts';

test('every screen has an address that leads back to it', () => {
  for (const screen of screens) expect(screenOf(hrefOf(screen))).toBe(screen);
});

test.each(['', '#', '#/', '#/nothing', '#models/x', '#/__proto__', '#/<b>'])(
  'the address %j shows the consultation',
  (hash) => expect(screenOf(hash)).toBe('consult'),
);

test('the screen follows the address until it is told not to', () => {
  const told = new Set<() => void>();
  const window = {
    location: { hash: '#/models' },
    addEventListener: (_: string, tell: () => void) => void told.add(tell),
    removeEventListener: (_: string, tell: () => void) => void told.delete(tell),
  };
  const route = new Route();
  const end = route.follow(window);
  expect(route.screen).toBe('models');
  window.location.hash = '#/device';
  for (const tell of told) tell();
  expect(route.screen).toBe('device');
  end();
  expect(told.size).toBe(0);
});
