import { expect, it } from 'vitest';
import { Pipe } from './pipe.ts';

/** A receiver that answers only when the test says so. */
class SlowPage {
  readonly seen: string[] = [];
  readonly #answers: (() => void)[] = [];

  readonly receive = (event: string): Promise<void> => {
    this.seen.push(event);
    return new Promise((resolve) => this.#answers.push(resolve));
  };

  async answer(): Promise<void> {
    this.#answers.shift()?.();
    await new Promise((resolve) => setTimeout(resolve));
  }
}

const joined = (older: string, newer: string) => `${older}${newer}`;

it('sends the first event at once, and merges what comes while it is under way', async () => {
  const page = new SlowPage();
  const pipe = new Pipe(page.receive, joined);
  for (const event of ['宝', '宝', '发', '烧']) pipe.push(event);
  expect(page.seen).toEqual(['宝']);
  await page.answer();
  expect(page.seen).toEqual(['宝', '宝发烧']);
});

it('keeps order and loses nothing where events cannot be merged', async () => {
  const seen: string[] = [];
  const pipe = new Pipe<string>(
    (event) => void seen.push(event),
    () => null,
  );
  const events = Array.from({ length: 100 }, (_, i) => String(i));
  for (const event of events) pipe.push(event);
  await pipe.flush();
  expect(seen).toEqual(events);
});

it('is flushed only when the page has answered the last event', async () => {
  const page = new SlowPage();
  const pipe = new Pipe(page.receive, () => null);
  pipe.push('a');
  pipe.push('b');
  let flushed = false;
  const done = pipe.flush().then(() => (flushed = true));
  await page.answer();
  expect(flushed).toBe(false);
  await page.answer();
  await done;
  expect(page.seen).toEqual(['a', 'b']);
});

it('starts again after it ran dry', async () => {
  const seen: string[] = [];
  const pipe = new Pipe<string>((event) => void seen.push(event), joined);
  pipe.push('a');
  await pipe.flush();
  pipe.push('b');
  await pipe.flush();
  expect(seen).toEqual(['a', 'b']);
});

it('tells at the end what the page threw, and sends nothing more', async () => {
  const bug = new Error('the page broke');
  const seen: string[] = [];
  const pipe = new Pipe<string>((event) => {
    seen.push(event);
    return Promise.reject(bug);
  }, joined);
  pipe.push('a');
  pipe.push('b');
  await expect(pipe.flush()).rejects.toBe(bug);
  expect(seen).toEqual(['a']);
});
