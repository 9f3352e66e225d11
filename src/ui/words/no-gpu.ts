/**
 * Said in both languages at once: whoever stands before it should need no setting to read it.
 * Fetched with what shows it.
 */

export const noGpuZh = {
  title: '这个浏览器不能用显卡运行模型',
  text: '设置里选了用显卡（WebGPU）计算，而这里没有可用的显卡适配器。',
  cpu: '改为自动，用处理器计算',
  step1: '把 Chrome 或 Edge 更新到 121 或更新的版本；安卓请用 Android 12 以上的 Chrome。',
  step2:
    '在地址栏打开 chrome://gpu，看 WebGPU 一行是否为“Hardware accelerated”；在设置里打开“使用图形加速”。',
  step3: '更新显卡驱动后重启浏览器，或换一台手机或电脑。',
  still: '没有模型时，下面的输入框仍会检查危险信号。',
  reload: '重新加载页面',
};

export const noGpuEn: typeof noGpuZh = {
  title: 'This browser cannot run the model on a graphics device',
  text: 'The settings ask for WebGPU, and no graphics adapter is available here.',
  cpu: 'Choose by itself: use the processor',
  step1: 'Update Chrome or Edge to 121 or newer; on Android use Chrome on Android 12 or newer.',
  step2:
    'Open chrome://gpu and look at the line WebGPU: it should say “Hardware accelerated”. Turn on “Use graphics acceleration” in the settings.',
  step3: 'Update the graphics driver and restart the browser, or use another phone or computer.',
  still: 'Without a model, the box below still checks for danger signs.',
  reload: 'Reload the page',
};
