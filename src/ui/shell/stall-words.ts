/** What is said of a model that does not move: fetched with the note. */
export const stallZh = {
  answer: (seconds: number) => `模型已有 ${seconds} 秒没有任何进展。`,
  load: (seconds: number) => `加载模型已有 ${seconds} 秒没有任何进展。`,
  kept: '已经写出的部分不会丢失。',
  choice:
    '可能只是这台设备很慢或很忙，也可能卡住了。您可以继续等；也可以结束这次计算，重新加载模型，然后接着说完或再试一次。',
  silent: (seconds: number) => `到现在 ${seconds} 秒。`,
  again: '如果反复这样，请关闭其他标签页再重新加载页面，或换用更小的模型。',
  wait: '继续等',
  renew: '结束并重新加载模型',
};

export const stallEn: typeof stallZh = {
  answer: (seconds) => `The model has not moved for ${seconds} seconds.`,
  load: (seconds) => `Loading the model has not moved for ${seconds} seconds.`,
  kept: 'The words that are here are not lost. ',
  choice:
    'This device may just be slow or busy, or the model may be stuck. You can keep waiting, or end this computation and load the model anew; then let the answer go on, or try again.',
  silent: (seconds) => `${seconds} seconds by now. `,
  again:
    'If this happens again and again, close other tabs and reload the page, or choose a smaller model.',
  wait: 'Keep waiting',
  renew: 'End it and load the model anew',
};
