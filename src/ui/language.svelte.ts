import { createInstance, type i18n, type TFunction } from 'i18next';
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

/** The language of the page: chosen once, remembered on this device. */
export class Language {
  current = $state<LanguageCode>('zh-CN');
  readonly #i18n: i18n = createInstance();
  readonly #chinese: TFunction;
  #english: TFunction | null = null;

  /** `english`: what `firstEnglish` gave; without it the page begins in Chinese. */
  constructor(preferred: readonly string[], english: Words | null = null) {
    void this.#i18n.init({
      initAsync: false, // the words are here: nothing to wait for
      showSupportNotice: false,
      fallbackLng: 'zh-CN',
      interpolation: { escapeValue: false }, // Svelte writes text nodes
      resources: { 'zh-CN': { translation: zh } },
    });
    this.#chinese = this.#i18n.getFixedT('zh-CN');
    if (english === null) return;
    this.#learn(english);
    this.current = wanted(preferred);
  }

  /** Says a key of `words/zh.ts` in the current language. */
  get t(): TFunction {
    return this.current === 'en' ? (this.#english ?? this.#chinese) : this.#chinese;
  }

  /** Which of a pair of texts to show. */
  get short(): 'zh' | 'en' {
    return this.current === 'en' ? 'en' : 'zh';
  }

  /** @throws where English is wanted and does not come: the language stays as it is */
  async toggle(): Promise<void> {
    if (this.current === 'zh-CN' && this.#english === null) this.#learn(await loadEnglish());
    this.current = this.current === 'en' ? 'zh-CN' : 'en';
    remember(KEY, this.current);
  }

  #learn(english: Words): void {
    this.#i18n.addResourceBundle('en', 'translation', english);
    this.#english = this.#i18n.getFixedT('en');
  }
}
