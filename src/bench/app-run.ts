import { access } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Page } from '@playwright/test';
import { launch } from './page-run.ts';
import { randomAppPackage } from './random-package.ts';
import { median, round } from './rows.ts';
import { serve } from './server.ts';

/** The built app in Chromium, as a person has it: when it paints, and what it says of its speed. */

export interface AppOptions {
  readonly backend: 'auto' | 'webgpu' | 'cpu';
  readonly answers: number;
  /** Serve 40 million random weights in place of the shipped model. */
  readonly random: boolean;
  readonly hardware: boolean;
  readonly log: (line: string) => void;
}

export interface AppResult {
  readonly ran: string;
  /** Decode, tokens per second of every answer, in their order. */
  readonly tokensPerSecond: readonly number[];
  readonly median: number;
  /** Milliseconds to the first contentful paint of visits to the installed shell, in their order. */
  readonly firstPaint: readonly number[];
  readonly medianFirstPaint: number;
}

const VISITS = 7;

const cache = fileURLToPath(new URL('../../.cache/bench', import.meta.url));
const dist = fileURLToPath(new URL('../../dist/', import.meta.url));

/** 222 tokens of the shipped model; with its template and an answer the cache holds about 256. */
const QUESTION =
  '孩子3岁，发热两天，最高38.8度，咳嗽，夜里重，有痰，精神还好，吃饭少，大便正常，喝水不多，流清鼻涕。'.repeat(
    6,
  );

/** @throws Error where `dist/` holds no app */
export async function benchApp({
  backend,
  answers,
  random,
  hardware,
  log,
}: AppOptions): Promise<AppResult> {
  await access(join(dist, 'index.html')).catch((cause: unknown) => {
    throw new Error('dist/ holds no app: run `npm run build` first', { cause });
  });
  const models = random ? { models: dirname(await randomAppPackage(cache, 1)) } : {};
  const server = await serve({ '': dist, ...models });
  const browser = await launch(hardware);
  try {
    const page = await browser.newPage();
    await page.addInitScript(() => {
      const given = { version: 1, role: 'research', date: '2026-11-01T00:00:00.000Z' };
      localStorage.setItem('pediatricsgpt.consent', JSON.stringify(given));
    });
    await page.goto(`${server.url}?backend=${backend}`);
    await page.getByTestId('model-ready').waitFor({ timeout: 120_000 });
    const firstPaint = await firstPaints(page, log);
    await page.getByTestId('model-ready').waitFor({ timeout: 120_000 });
    await setUp(page);
    const tokensPerSecond: number[] = [];
    let ran = '';
    for (let i = 0; i < answers; i++) {
      const facts = await ask(page, `${QUESTION}${i}`);
      log(facts);
      const [speed = '', , device = ''] = facts.split(' · ');
      ran = device;
      tokensPerSecond.push(Number.parseFloat(speed));
    }
    const sorted = tokensPerSecond.toSorted((a, b) => a - b);
    const middle = round(sorted[sorted.length >> 1] ?? NaN, 3);
    const medianFirstPaint = round(median(firstPaint), 3);
    return { ran, tokensPerSecond, median: middle, firstPaint, medianFirstPaint };
  } finally {
    await browser.close();
    await server.close();
  }
}

/** Visits to the page that its service worker has: what a person who opens the installed app waits. */
async function firstPaints(page: Page, log: (line: string) => void): Promise<number[]> {
  await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
  const paints: number[] = [];
  for (let visit = 0; visit < VISITS; visit++) {
    await page.reload();
    const paint = await page.evaluate(
      () =>
        new Promise<number>((resolve) => {
          new PerformanceObserver((list, observer) => {
            const [entry] = list.getEntriesByName('first-contentful-paint');
            if (entry === undefined) return;
            observer.disconnect();
            resolve(entry.startTime);
          }).observe({ type: 'paint', buffered: true });
        }),
    );
    paints.push(round(paint, 4));
    log(`first paint after ${round(paint, 3)} ms`);
  }
  return paints;
}

/** Answers that differ from each other and go on for a while. */
async function setUp(page: Page): Promise<void> {
  await page.getByTestId('settings').click();
  await page.getByTestId('setting-temperature').fill('1');
  await page.getByTestId('setting-max-tokens').fill('64');
  await page.getByTestId('setting-max-tokens').press('Tab');
  await page.keyboard.press('Escape');
}

/** One question in a conversation of its own; what the page says of the answer. */
async function ask(page: Page, question: string): Promise<string> {
  await page.getByTestId('composer').fill(question);
  await page.getByTestId('send').click();
  const facts = page.getByTestId('answer-facts');
  await facts.waitFor({ timeout: 120_000 });
  const text = await facts.innerText();
  await page.getByTestId('new-conversation').click();
  await facts.waitFor({ state: 'detached' });
  return text;
}
