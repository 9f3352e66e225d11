/** 8 bits that are too coarse for a model say nothing against the GPU. */
const isCoarse = (from: string): boolean => from.endsWith('int8');

/** What is said beside a loaded model where it does not run as it was meant to: fetched with the notes. */
export const loadNotesZh = {
  since: {
    load: '上次加载模型时页面意外关闭',
    answer: '上次回答时页面意外关闭（对话已保存）',
    compare: '上次对比模型时页面意外关闭',
    worker: '计算模型的部分意外停止过',
  },
  care: {
    careful: '，所以改用最稳妥、占内存较少的方式运行：可能会慢一些。',
    cpu: '，最稳妥的显卡方式也没有用，所以改用处理器运行：可能会慢一些。',
  },
  usual: '改用平常的方式',
  otherEdition:
    '之前选定的模型已由另一版本取代，现在用的是这台设备上的那一版。要换别的，请到“模型”页选择。',
  left: {
    WrongNumbers: (from: string) => `${from} ${isCoarse(from) ? '不够精确' : '算出的结果不对'}`,
    DeviceLimit: (from: string) => `${from} 显存不够`,
    DeviceLost: (from: string) => `${from} 中途停止了工作`,
    NoWebGpu: (from: string) => `${from} 在这里不受支持`,
  },
  fellBack: (left: readonly string[], now: string) =>
    `先在显卡上试过而没有采用：${left.join('；')}。现在：${now}。`,
};

export const loadNotesEn: typeof loadNotesZh = {
  since: {
    load: 'The page died while the model was loading the last time',
    answer: 'The page died during an answer the last time (the conversation was kept)',
    compare: 'The page died while models were compared the last time',
    worker: 'The part that computes the model stopped by itself',
  },
  care: {
    careful:
      ', so the model is run in its most careful way, with less memory, which may be slower.',
    cpu: ', and the most careful way on the graphics device did not help, so the model is run on the processor, which may be slower.',
  },
  usual: 'Run it the usual way',
  otherEdition:
    'Another edition has taken the place of the model that was chosen, and the one on this device is in use now. Choose another on the page “Models”.',
  left: {
    WrongNumbers: (from) =>
      `${from} ${isCoarse(from) ? 'was not exact enough' : 'computed wrong numbers'}`,
    DeviceLimit: (from) => `${from} has not enough memory`,
    DeviceLost: (from) => `${from} stopped working`,
    NoWebGpu: (from) => `${from} is not supported here`,
  },
  fellBack: (left, now) =>
    `Tried first on the graphics device and left: ${left.join('; ')}. The model now runs ${now}.`,
};
