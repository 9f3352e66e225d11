import type { FailureName } from '../../failure.ts';

// A type, not an interface: the types of the words' keys look only into those.
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
  WorkerLost: {
    title: '计算模型的部分意外停止了',
    todo: '可能是内存不足。已有的文字都保留着，模型会自动重新加载一次，然后请再试一次；若又停止，请关闭其他标签页，或换用更小的模型。',
  },
  WorkerHung: {
    title: '已按您的要求结束没有进展的计算',
    todo: '已有的文字都保留着。模型重新加载好以后，可以接着说完或再试一次。',
  },
  PartMissing: {
    title: '应用的这一部分没有取到',
    todo: '可能没有网络，或应用刚刚更新。已有的内容不会丢失：请连接网络，再重新加载页面。',
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
  BadRecipe: {
    title: '量化配方不能使用',
    todo: '请按提示改正配方文件，或使用默认配方。',
  },
  BadSignature: {
    title: '不能确认这个模型来自可信的提供者',
    todo: '本站只运行由指定密钥签名的模型。这份模型没有签名、签名不符，或这个浏览器不能验证签名（Ed25519）。请把浏览器更新到 Chrome 137 或更新的版本再试；若仍然出现，请勿使用这份模型，并联系提供模型的人。',
  },
  BadPackage: {
    title: '模型文件彼此对不上',
    todo: '请再试一次；若仍然出现，请联系提供模型的人，换一份完整的模型。',
  },
  BadLibrary: {
    title: '导入的模型不能运行',
    todo: '它的程序库（.wasm）可能是为别的版本（这里用 web-llm 0.2.86）、别的权重或别的显卡编译的。请换用与权重一起编译的程序库。',
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
  ServerError: {
    title: '服务器出错，暂时取不到模型文件',
    todo: '已经取到的部分都保留着。请过一会儿再试；若仍然出现，请联系提供模型的人。',
  },
  Stalled: {
    title: '网络停住了，很久没有收到数据',
    todo: '已经取到的部分都保留着。请检查网络后继续，不会重新下载已有的部分。',
  },
  OtherOrigin: {
    title: '不能从别的网站取模型',
    todo: '为了保护隐私，本页只和自己的网站通信。请把模型文件放到本站，或先下载到文件夹、U 盘再导入。',
  },
  BadFolder: {
    title: '这个文件夹里没有可用的模型，或文件正在变动',
    todo: '请选择装有 manifest.json 的那个文件夹（只含一个模型），导入时不要拔出 U 盘或改动文件。',
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
  StorageBroken: {
    title: '浏览器的存储出了错',
    todo: '磁盘可能已满或有故障。之前存好的内容没有被改动；请先复制本页要紧的文字，再重新加载页面。若仍然出现，请检查磁盘。',
  },
  StorageCleared: {
    title: '本站保存在这个浏览器里的数据刚刚被清除',
    todo: '咨询记录、模型和离线文件都已不在这台设备上。这个窗口里打开着的对话和儿童资料还在内存里，不会自动写回：需要的话请先导出，再重新加载页面。',
  },
  WrongPassphrase: {
    title: '口令不对',
    todo: '请检查大小写和输入法后再输一次。忘记的口令没有人能找回。',
  },
  RecordsLocked: {
    title: '咨询记录已上锁',
    todo: '请输入口令解锁，然后再试。',
  },
  RecordsNewer: {
    title: '咨询记录由更新版本的程序写成',
    todo: '这个窗口是旧版本，不会改动记录。请重新加载页面。',
  },
  RecordsChanged: {
    title: '另一个窗口改动了全部咨询记录',
    todo: '这里的内容还没有存上，请先复制要紧的文字，再重新加载页面。',
  },
  RecordDamaged: {
    title: '有一条咨询记录读不出来',
    todo: '它可能损坏或被改动过。其他记录不受影响；如果有导出的备份，可以重新导入。',
  },
  BadImport: {
    title: '这个文件不能导入',
    todo: '请选择从本程序导出的 JSON 文件，并确认它没有被改动、没有超过大小上限。现有记录没有变化。',
  },
  NewerImport: {
    title: '这个文件由更新版本的程序导出',
    todo: '请先更新本程序再导入。现有记录没有变化。',
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
  OtherWindow: {
    title: '另一个窗口正在使用模型',
    todo: '一次只能有一个窗口运行模型。这里仍可查看以前的对话；要在这里提问，请点“在这里使用”，另一个窗口会停下并保留已有的回答。',
  },
  NoModel: {
    title: '选定的模型不在这台设备上',
    todo: '请到“模型”页选择或安装一个模型。',
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
