import {
  flatten,
  type TemplateResolver,
  type Translator,
  translator,
} from '@solid-primitives/i18n';
import { recall, remember } from './memory.ts';
import { type Words, zh } from './words/zh.ts';

export type LanguageCode = 'zh-CN' | 'en';

const KEY = 'language';
/** English is fetched when somebody wants it. */
const loadEnglish = async (): Promise<Words> => (await import('./words/en.ts')).en;

/** The language to begin with: the one that was chosen, else what the browser asks for, best first. */
function wanted(preferred: readonly string[]): LanguageCode {
  const kept = recall(KEY);
  if (kept === 'en' || kept === 'zh-CN') return kept;
  const first = preferred.find((tag) => /^(?:zh|en)\b/i.test(tag));
  return first?.startsWith('en') === true ? 'en' : 'zh-CN';
}

/** The English words where the page begins in English; null where it does not. */
export async function firstEnglish(preferred: readonly string[]): Promise<Words | null> {
  return wanted(preferred) === 'en' ? loadEnglish() : null;
}

/** Says a key of `words/zh.ts`, with what stands in its braces. */
export type Say = Translator<ReturnType<typeof flatten<Words>>>;

/**
 * Puts the arguments in the places of a text. The library's own resolver would read `$&` in a child's nickname as a part of a
 * pattern, and braces in it as a place for the next argument.
 */
const fill: TemplateResolver = (template, ...[args]) =>
  template.replace(/\{\{(\w+)\}\}/g, (place, name: string) =>
    String((args as Record<string, string | number | boolean> | undefined)?.[name] ?? place),
  );

const sayIn = (words: Words): Say => {
  const flat = flatten(words);
  return translator(() => flat, fill);
};

/** The language of the page: chosen once, remembered on this device. */
export class Language {
  current = $state<LanguageCode>('zh-CN');
  readonly #chinese = sayIn(zh);
  #english: Say | null = null;

  /** `english`: what `firstEnglish` gave; without it the page begins in Chinese. */
  constructor(preferred: readonly string[], english: Words | null = null) {
    if (english === null) return;
    this.#english = sayIn(english);
    this.current = wanted(preferred);
  }

  /** Says a key of `words/zh.ts` in the current language. */
  get t(): Say {
    return this.current === 'en' ? (this.#english ?? this.#chinese) : this.#chinese;
  }

  /** Which of a pair of texts to show. */
  get short(): 'zh' | 'en' {
    return this.current === 'en' ? 'en' : 'zh';
  }

  /** @throws where English is wanted and does not come: the language stays as it is */
  async toggle(): Promise<void> {
    if (this.current === 'zh-CN') this.#english ??= sayIn(await loadEnglish());
    this.current = this.current === 'en' ? 'zh-CN' : 'en';
    remember(KEY, this.current);
  }
}
