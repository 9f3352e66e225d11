import type { PeerProblemKind } from '../../peer/api.ts';
import { stallZh } from '../shell/stall-words.ts';

/** What is wrong with a folder, where, and what to do. */
type ProblemWords = Readonly<Record<PeerProblemKind, (file: string, detail: string) => string>>;
const problems = (words: ProblemWords): ProblemWords => words;

/** What the comparison says, in simplified Chinese. `words-en.ts` has the same: the type says so. */
export const compareZh = {
  lead: '同一个问题，两边各回答一次。为了节省内存，两边一个接一个运行，用同样的采样设置和种子；期间对话的模型先退出内存，离开本页后自动重新加载。这里的问题和回答不存入咨询记录。',
  side: (n: number): string => `第 ${n} 边`,
  model: '模型',
  noModel: '这台设备上还没有模型',
  backend: '用什么计算',
  backends: { webgpu: '显卡（WebGPU）', cpu: '处理器' },
  task: '任务',
  peerOption: '导入的 MLC 模型（WebLLM）',
  notInstalled: '尚未安装，会先从本站取得',
  question: '问题',
  placeholder: '两边都会回答这个问题。',
  start: '开始对比',
  stop: '停止',
  stopping: '正在停止……',
  hindrance: {
    question: '请先写下问题。',
    answer: '对话里有一个回答正在进行，请等它结束或先停止它。',
    loading: '对话的模型正在加载，请稍等。',
    model: '请先为两边各选一个模型。',
    peer: '请先在下面导入 MLC 模型的文件夹。',
  },
  looking: '正在查看有哪些模型……',
  results: '对比结果',
  states: {
    waiting: '等待中：先运行另一边',
    loading: '正在加载模型',
    answering: '正在回答',
    done: '回答完毕',
    stopped: '已停止',
    failed: '没有答完',
    skipped: '没有运行：在它之前停止了',
  },
  stall: {
    answer: stallZh.answer,
    load: stallZh.load,
    silent: stallZh.silent,
    wait: stallZh.wait,
    choice:
      '可能只是这台设备很慢或很忙，也可能卡住了。您可以继续等，也可以结束这一边：已经写出的部分会保留，另一边照常运行。',
    end: '结束这一边',
    ending: '正在结束……',
    todo: '已经写出的部分都保留着。要再试一次，请重新开始对比。',
  },
  ran: {
    wgsl: '显卡（本项目的着色器）',
    onnx: '处理器（ONNX Runtime）',
    'web-llm': '显卡（WebLLM）',
  },
  facts: {
    model: '模型',
    computed: '实际计算',
    first: '首个词元',
    prefill: '读取',
    decode: '生成',
    tokens: '词元',
    finish: '结束原因',
  },
  perSecond: (n: string): string => `${n} 词元/秒`,
  seconds: (n: string): string => `${n} 秒`,
  tokens: (prompt: number, reused: number, output: number): string =>
    `问题 ${prompt}${reused > 0 ? `（其中 ${reused} 已算好）` : ''}，回答 ${output}`,
  finish: { stop: '模型自己结束', length: '到了长度上限', cancelled: '被停止' },
  unknown: '未知',
  settings: (
    temperature: number,
    topP: number,
    topK: number,
    penalty: number,
    most: number,
  ): string =>
    `温度 ${temperature}，top-p ${topP}，top-k ${topK}，重复惩罚 ${penalty}，最长 ${most} 词元`,
  seed: (seed: number): string => `种子 ${seed}`,
  seedNote: '不同的计算方式用同一种子也可能得到不同的回答。',
  peerSampling: 'WebLLM 没有 top-k，它用自己的随机数。',
  notOurs: '这不是 PediatricsGPT：它没有经过本项目的儿科训练和评测，来源和质量由提供者负责。',
  speedNote: '速度只代表这台设备的这一次；后运行的一边可能受前一边影响（发热、缓存）。',
  copy: '复制为 Markdown',
  copied: '已复制',
  copyFailed: '没能复制，请改用下载。',
  markdown: '下载 Markdown',
  json: '下载 JSON',
  import: {
    title: '导入 MLC 模型',
    lead: '选择一个文件夹，里面要有 mlc-chat-config.json、tensor-cache.json（或 ndarray-cache.json）、全部 params_shard_*.bin、分词文件和一个编译好的程序库（.wasm，用于 web-llm 0.2.86）。它只能用显卡运行。文件留在原处，不复制也不上传；关闭页面后需要重新选择。',
    folder: '选择文件夹',
    files: '选择多个文件',
    checking: '正在核对文件……',
    cancel: '取消',
    remove: '移除',
    good: '核对通过',
    facts: (size: string, tensors: number, context: string): string =>
      `权重 ${size}，${tensors} 个张量，上下文 ${context} 词元`,
    sliding: '滑动',
    library: (name: string, size: string): string => `程序库 ${name}（${size}）的 SHA-256`,
    manifest: (name: string): string => `清单 ${name} 的 SHA-256`,
    compareHash: '请与提供者公布的数值比对：程序库是会在这里运行的代码。',
    sums: '每个权重文件的大小和 MD5 都与清单一致。',
    noSums: '清单没有 MD5，只核对了大小。',
    f16: '需要半精度（shader-f16），这个显卡支持。',
    wrong: '这个文件夹不能用',
  },
  problems: problems({
    'no-config': () =>
      '没有找到 mlc-chat-config.json。请选择直接包含这个文件的文件夹（也可以是它的上一级）。',
    'several-models': (_, names) => `里面有不止一个模型：${names}。请只选择其中一个的文件夹。`,
    'too-many-files': () => '文件太多，不像是一个模型的文件夹。请直接选择模型的文件夹。',
    missing: (file) => `缺少文件 ${file}。请把它放进文件夹，再选一次。`,
    twice: (file, name) =>
      `${name === '' ? file : `${file} 里的 ${name}`} 出现了两次。请换一份完整的模型。`,
    'bad-name': (file, name) =>
      `${file} 里有一个不允许的文件名：${name}。文件名不能带路径或特殊符号，请不要使用这份模型。`,
    'too-large': (file, bytes) => `${file} 大得不合理（${bytes} 字节）。请检查选对了文件夹。`,
    config: (file, detail) =>
      `${file} 不符合格式：${detail}。需要 MLC 的对话设置（conv_template）、分词文件和上下文长度；请用 mlc_llm gen_config 重新生成。`,
    manifest: (file, detail) => `${file} 自相矛盾或不符合格式：${detail}。请重新取得这份模型。`,
    size: (file, detail) => `${file} 的字节数和清单不符（${detail}）。请重新复制或下载这个文件。`,
    checksum: (file) => `${file} 的内容和清单里的 MD5 不符，文件已损坏。请重新复制或下载它。`,
    'no-library': () =>
      '没有程序库（.wasm）。它与权重分开发布：请把为这个模型编译的那一个放进同一个文件夹。',
    'several-libraries': (_, names) => `有不止一个程序库：${names}。请只留下要用的那一个。`,
    'not-wasm': (file) => `${file} 不是完整的 WebAssembly 文件。请重新取得它。`,
    'not-tvm': (file, detail) =>
      `${file} 是 WebAssembly，但不是 TVM/MLC 编译的模型程序库（缺少 ${detail}）。`,
    'old-library': (file) => `${file} 是为旧版本编译的。请用 web-llm 0.2.80 或更新版本的程序库。`,
    unreadable: (file, detail) =>
      `读不出${file === '' ? '文件' : ` ${file}`}（${detail}）：可能在读取时被改动、移走，或 U 盘已拔出。请再选一次。`,
    'no-webgpu': () =>
      '文件没有问题，但这个浏览器没有可用的显卡（WebGPU），导入的模型只能用显卡运行。',
    'needs-f16': () =>
      '文件没有问题，但程序库用半精度（shader-f16）计算，这个显卡不支持。请换用 q4f32 的模型和程序库。',
    'gpu-too-small': (_, detail) => `文件没有问题，但这个显卡达不到 WebLLM 的最低要求：${detail}。`,
  }),
  file: {
    title: '模型对比',
    question: '问题',
    system: '系统提示词',
    machine: '设备',
    sampling: '采样',
    answer: '回答',
    noAnswer: '没有回答。',
    failure: '出错',
    library: '程序库的 SHA-256',
    manifest: '清单的 SHA-256',
    time: '时间',
  },
};

export type CompareWords = typeof compareZh;
