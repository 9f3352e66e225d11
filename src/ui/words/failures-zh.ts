import type { FailureName } from '../../failure.ts';

// A type, not an interface: i18next's key types look only into those.
export type FailureWords = {
  /** What happened. */
  title: string;
  /** What a person can do about it. */
  todo: string;
};

/** What each failure means to a person: one entry for every name, the compiler sees to it. */
export const failuresZh: Record<FailureName | 'Bug', FailureWords> = {
  NoWebGpu: {
    title: '这个浏览器不能用显卡运行模型',
    todo: '请更新到 Chrome 121 或更新的版本，在 chrome://gpu 查看 WebGPU 是否可用，或换一台设备。',
  },
  DeviceLost: {
    title: '显卡停止了工作',
    todo: '可能是显存不足、驱动重启或设备休眠。对话已保存，请重新加载页面。',
  },
  DeviceLimit: {
    title: '这台设备的显卡放不下这个模型',
    todo: '请关闭其他占用显卡的程序后再试，或换一台设备。',
  },
  CpuLimit: {
    title: '这个模型不能只用处理器运行',
    todo: '它在浏览器里需要的内存超过处理器方式的上限（32 位 WebAssembly，4 GB），或结构不受支持。请在设置里改用显卡，换用支持 WebGPU 的浏览器，或选用更小的模型。',
  },
  WrongNumbers: {
    title: '自检没有通过：这台设备算出的结果不对',
    todo: '为安全起见不会回答问题。请更新显卡驱动和浏览器后再试，或换一台设备。',
  },
  BadManifest: {
    title: '模型清单不符合格式',
    todo: '模型文件和程序版本可能不匹配。请重新加载页面；若仍然出现，请联系提供模型的人。',
  },
  BadTokenizer: {
    title: '模型的分词文件不能使用',
    todo: '请联系提供模型的人，换一份完整的模型。',
  },
  BadCheckpoint: {
    title: '训练检查点不能读取',
    todo: '请联系提供模型的人，重新转换模型。',
  },
  BadPackage: {
    title: '模型文件彼此对不上',
    todo: '请再试一次；若仍然出现，请联系提供模型的人，换一份完整的模型。',
  },
  NotFound: {
    title: '找不到模型文件',
    todo: '请检查网址中的模型名称，或联系提供模型的人确认文件已放好，然后再试。',
  },
  NotAShard: {
    title: '取回来的是网页，不是模型文件',
    todo: '可能被登录页或代理拦截。请确认网络可以正常访问本站后再试。',
  },
  ShardTruncated: {
    title: '模型文件不完整',
    todo: '网络可能中途断开。请再试一次，只会重新获取有问题的文件。',
  },
  ShardCorrupt: {
    title: '模型文件的内容和记录不符',
    todo: '请再试一次，只会重新获取有问题的文件；若反复出现，请检查网络或存储。',
  },
  Offline: {
    title: '没有网络，而模型还没有存到这台设备',
    todo: '请连接网络完成第一次加载，之后就可以离线使用。',
  },
  StorageFull: {
    title: '这台设备的存储空间不够',
    todo: '请清理一些空间（或浏览器里其他网站的数据）后再试。',
  },
  StorageBlocked: {
    title: '浏览器不允许保存数据',
    todo: '可能是无痕窗口或被设置禁止。请用普通窗口打开，或在设置中允许本站保存数据。',
  },
  PromptTooLong: {
    title: '对话太长，模型记不下了',
    todo: '请缩短问题，或开始一个新对话。',
  },
  EmptyPrompt: {
    title: '还没有写问题',
    todo: '请写下您的问题再发送。',
  },
  NotRouted: {
    title: '这个模型没有逐词路由模式',
    todo: '请使用普通模式。',
  },
  UnknownTask: {
    title: '这个模型没有这项任务',
    todo: '请选择另一项任务。',
  },
  Busy: {
    title: '上一个回答还没有结束',
    todo: '请等它结束，或先按停止，再试一次。',
  },
  Cancelled: {
    title: '已停止',
    todo: '已有的内容都保留着，可以重新回答。',
  },
  Usage: {
    title: '用法不对',
    todo: '请检查输入的参数。',
  },
  Bug: {
    title: '程序出错了',
    todo: '这是程序的错，不是您的。请再试一次；若仍然出现，请到项目主页提交问题，并写上下面的错误代码和浏览器版本。',
  },
};
