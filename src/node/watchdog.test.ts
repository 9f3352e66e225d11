import { describe, expect, it } from 'vitest';
import { Watchdog } from './watchdog.ts';

const after = <T>(ms: number, value: T): Promise<T> =>
  new Promise((resolve) => setTimeout(resolve, ms, value));

describe('the watchdog', () => {
  it('hands on what the work gives, and how it fails', async () => {
    const dog = new Watchdog(1000);
    expect(await dog.guard('work', after(5, 42))).toBe(42);
    await expect(dog.guard('work', Promise.reject(new Error('own')))).rejects.toThrow('own');
  });

  it('gives up on work that shows no sign of life', async () => {
    const never = new Promise<never>(() => undefined);
    const guarded = new Watchdog(40).guard('loading', never);
    await expect(guarded).rejects.toMatchObject({ name: 'DeviceLost' });
    await expect(guarded).rejects.toThrow(/^loading: the GPU gave no sign/);
  });

  it('waits for slow work that shows signs of life', async () => {
    const dog = new Watchdog(120);
    const signs = setInterval(() => dog.touch(), 10);
    try {
      expect(await dog.guard('work', after(400, 'done'))).toBe('done');
    } finally {
      clearInterval(signs);
    }
  });
});
