import { createInstance, type TFunction } from 'i18next';
import { recall, remember } from './memory.ts';
import { en } from './words/en.ts';
import { zh } from './words/zh.ts';

export type LanguageCode = 'zh-CN' | 'en';

const KEY = 'language';

/** The language of the page: chosen once, remembered on this device. */
export class Language {
  current = $state<LanguageCode>('zh-CN');
  readonly #say: Readonly<Record<LanguageCode, TFunction>>;

  /** `preferred` is what the browser asks for, best first. */
  constructor(preferred: readonly string[]) {
    const i18n = createInstance();
    void i18n.init({
      initAsync: false, // the words are here: nothing to wait for
      showSupportNotice: false,
      fallbackLng: 'zh-CN',
      interpolation: { escapeValue: false }, // Svelte writes text nodes
      resources: { 'zh-CN': { translation: zh }, en: { translation: en } },
    });
    this.#say = { 'zh-CN': i18n.getFixedT('zh-CN'), en: i18n.getFixedT('en') };
    const kept = recall(KEY);
    const first = preferred.find((tag) => /^(?:zh|en)\b/i.test(tag));
    this.current =
      kept === 'en' || kept === 'zh-CN' ? kept : first?.startsWith('en') ? 'en' : 'zh-CN';
  }

  /** Says a key of `words/zh.ts` in the current language. */
  get t(): TFunction {
    return this.#say[this.current];
  }

  /** Which of a pair of texts to show. */
  get short(): 'zh' | 'en' {
    return this.current === 'en' ? 'en' : 'zh';
  }

  toggle(): void {
    this.current = this.current === 'en' ? 'zh-CN' : 'en';
    remember(KEY, this.current);
  }
}
