import {
  flatten,
  type TemplateResolver,
  type Translator,
  translator,
} from '@solid-primitives/i18n';
import { Failure, failureName, partOfApp } from '../failure.ts';
import { recall, remember } from './memory.ts';
import { type Trouble, troubleOf } from './trouble.ts';
import { type Words, zh } from './words/zh.ts';

export type LanguageCode = 'zh-CN' | 'en';

const KEY = 'language';
/** English is fetched when somebody wants it. */
const loadEnglish = async (): Promise<Words> => (await partOfApp(import('./words/en.ts'))).en;

/** The language to begin with: the one that was chosen, else what the browser asks for, best first. */
function wanted(preferred: readonly string[]): LanguageCode {
  const kept = recall(KEY);
  if (kept === 'en' || kept === 'zh-CN') return kept;
  const first = preferred.find((tag) => /^(?:zh|en)\b/i.test(tag));
  return first?.startsWith('en') === true ? 'en' : 'zh-CN';
}

/** The English words where the page begins in English; null where it does not, or they do not come. */
export async function firstEnglish(preferred: readonly string[]): Promise<Words | null> {
  if (wanted(preferred) !== 'en') return null;
  try {
    return await loadEnglish();
  } catch (error) {
    if (failureName(error) !== 'PartMissing') throw error;
    return null; // a page in Chinese is more than none, and it says why
  }
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

const noEnglish = (): Failure => new Failure('PartMissing', 'the English words did not come');

/** The language of the page: chosen once, remembered on this device. */
export class Language {
  current = $state<LanguageCode>('zh-CN');
  /** Why the page is not in English although that is wanted. */
  trouble = $state.raw<Trouble | null>(null);
  readonly #chinese = sayIn(zh);
  #english: Say | null = null;

  /** `english`: what `firstEnglish` gave; without it the page begins in Chinese. */
  constructor(preferred: readonly string[], english: Words | null = null) {
    if (english === null) {
      if (wanted(preferred) === 'en') this.trouble = troubleOf(noEnglish());
      return;
    }
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

  /** Where English is wanted and does not come the language stays as it is, and `trouble` says so. */
  async toggle(): Promise<void> {
    try {
      if (this.current === 'zh-CN') this.#english ??= sayIn(await loadEnglish());
      this.trouble = null;
    } catch (error) {
      this.trouble = troubleOf(error);
      return;
    }
    this.current = this.current === 'en' ? 'zh-CN' : 'en';
    remember(KEY, this.current);
  }
}
