import { describe, expect, it } from 'vitest';
import type { KeptText } from '../store/measurements.ts';
import { fasterStore, isHandheld, worthMeasuring } from './faster-store.ts';

const android = { userAgent: 'Mozilla/5.0 (Linux; Android 10; K) Chrome/140 Mobile Safari/537.36' };
const desktop = { userAgent: 'Mozilla/5.0 (X11; Linux x86_64) Chrome/140 Safari/537.36' };
const ofSize = (bytes: number) => ({ files: [{ name: 'shard-00000.bin', bytes, sha256: '' }] });

function memory(text: string | null = null): KeptText & { text: () => string | null } {
  let kept = text;
  return {
    read: () => Promise.resolve(kept),
    write: (written) => ((kept = written), Promise.resolve()),
    text: () => kept,
  };
}

describe('what is measured', () => {
  it('is a phone, by what the browser says first', () => {
    expect(isHandheld(android)).toBe(true);
    expect(isHandheld(desktop)).toBe(false);
    expect(isHandheld({ ...android, userAgentData: { mobile: false } })).toBe(false);
    expect(isHandheld({ ...desktop, userAgentData: { mobile: true } })).toBe(true);
  });

  it('is no package whose weights are too much twice', () => {
    expect(worthMeasuring(android, ofSize(13e6))).toBe(true);
    expect(worthMeasuring(android, ofSize(300e6))).toBe(false);
    expect(worthMeasuring(desktop, ofSize(13e6))).toBe(false);
  });
});

describe('the winner', () => {
  it('is kept by key', async () => {
    const kept = memory();
    await fasterStore(kept, 'a').set('onnx');
    await fasterStore(kept, 'b').set('wgsl');
    expect(await fasterStore(kept, 'a').get()).toBe('onnx');
    expect(await fasterStore(kept, 'b').get()).toBe('wgsl');
    expect(await fasterStore(kept, 'c').get()).toBeNull();
  });

  it.each(['', '[', 'null', '3', '{"a":"tpu"}', '{"a":1}'])('is none in %j', async (text) => {
    expect(await fasterStore(memory(text), 'a').get()).toBeNull();
  });

  it('leaves when many have come since', async () => {
    const kept = memory();
    for (let i = 0; i < 20; i++) await fasterStore(kept, `k${i}`).set('wgsl');
    expect(await fasterStore(kept, 'k0').get()).toBeNull();
    expect(await fasterStore(kept, 'k19').get()).toBe('wgsl');
  });
});
