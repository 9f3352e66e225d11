import { expect, test, vi } from 'vitest';
import { closeBoundary, type Surroundings } from './boundary.ts';

type Rules = Readonly<
  Record<'createHTML' | 'createScript' | 'createScriptURL', (s: string) => string>
>;

function surroundings(): { where: Surroundings & Record<string, unknown>; rules: () => Rules } {
  const createPolicy = vi.fn<(name: string, rules: Rules) => unknown>();
  const location = { href: 'http://localhost:4820/app/', origin: 'http://localhost:4820' };
  return {
    where: {
      location,
      trustedTypes: { defaultPolicy: null, createPolicy },
      RTCPeerConnection: class {},
      webkitRTCPeerConnection: class {},
    },
    rules: () => {
      const [name, rules] = createPolicy.mock.calls[0] ?? [];
      expect(name).toBe('default');
      if (rules === undefined) throw new Error('no policy was made');
      return rules;
    },
  };
}

test('peer connections are gone', () => {
  const { where } = surroundings();
  closeBoundary(where);
  expect('RTCPeerConnection' in where).toBe(false);
  expect('webkitRTCPeerConnection' in where).toBe(false);
});

test('text never becomes HTML or a script', () => {
  const { where, rules } = surroundings();
  closeBoundary(where);
  expect(() => rules().createHTML('<b>')).toThrow(TypeError);
  expect(() => rules().createScript('1')).toThrow(TypeError);
});

test.each([
  ['sw.js', 'http://localhost:4820/app/sw.js'],
  ['http://localhost:4820/assets/worker-1.js', 'http://localhost:4820/assets/worker-1.js'],
])('%s is a script of this site', (address, url) => {
  const { where, rules } = surroundings();
  closeBoundary(where);
  expect(rules().createScriptURL(address)).toBe(url);
});

test.each([
  'https://elsewhere.example/x.js',
  '//elsewhere.example/x.js',
  'data:text/javascript,1',
  'javascript:1',
  'blob:http://localhost:4820/6f',
  'models/nano/manifest.json',
])('%s is none', (address) => {
  const { where, rules } = surroundings();
  closeBoundary(where);
  expect(() => rules().createScriptURL(address)).toThrow('no script of this site');
});

test('a browser without such types, or with a policy already, is left as it is', () => {
  expect(() => closeBoundary({ location: { href: '', origin: '' } })).not.toThrow();
  const createPolicy = vi.fn();
  closeBoundary({
    location: { href: '', origin: '' },
    trustedTypes: { defaultPolicy: {}, createPolicy },
  });
  expect(createPolicy).not.toHaveBeenCalled();
});
