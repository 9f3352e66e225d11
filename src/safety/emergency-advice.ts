/** The fixed words of the emergency banner. No model has a part in them. */
export interface EmergencyAdvice {
  readonly title: string;
  readonly call: string;
  readonly found: string;
  readonly meanwhile: string;
  readonly steps: readonly string[];
  readonly note: string;
}

export const emergencyNumber = '120';

export const emergencyAdvice: Readonly<Record<'zh' | 'en', EmergencyAdvice>> = {
  zh: {
    title: '可能是急症：请立即拨打 120',
    call: '拨打 120',
    found: '您写到的内容里有这些危险信号',
    meanwhile: '等待急救时',
    steps: [
      '留在孩子身边，打开免提，听接线员指导。',
      '没有呼吸或没有反应：马上开始心肺复苏，有 AED 就取来。',
      '有呼吸但不清醒或在抽搐：侧卧、松开衣领，不按压、不往嘴里塞东西、不喂水喂药。',
      '误吞或中毒：不要催吐，带上包装或剩余物。',
      '出血就持续压住；烫伤用流动凉水冲 20 分钟。',
      '不要等本程序的回答。',
    ],
    note: '这条提示由固定规则给出，可能多报，也可能漏报；没有出现提示不等于没有危险。',
  },
  en: {
    title: 'This may be an emergency: call 120 now',
    call: 'Call 120',
    found: 'Danger signs in what you wrote',
    meanwhile: 'While you wait for help',
    steps: [
      'Stay with the child, put the phone on speaker and follow the operator.',
      'Not breathing or not responding: start CPR at once; send for an AED.',
      'Breathing but not awake, or convulsing: lay on the side, loosen the collar; do not restrain, put nothing in the mouth, give no water or medicine.',
      'Swallowed something or poisoned: do not induce vomiting; bring the package or what is left.',
      'Bleeding: keep pressing on it. Burn: cool running water for 20 minutes.',
      'Do not wait for an answer from this page.',
    ],
    note: 'Fixed rules raise this warning. They can warn too often and can miss things: no warning does not mean no danger.',
  },
};
