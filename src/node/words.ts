import pc from 'picocolors';
import { failureName, type FailureName } from '../failure.ts';
import { findDangerSigns } from '../safety/danger-signs.ts';
import { emergencyAdvice } from '../safety/emergency-advice.ts';
import type { GenerateResult, ModelInfo } from '../worker/api.ts';

/** What the command line says to a person. Everything but the answer goes to stderr. */

const NOTICE = [
  '研究工具，模型很小、会出错：不是医疗器械，不是医生。急症请立即拨打 120。',
  'Research tool with a very small model that makes mistakes: no medical device, no doctor. ' +
    'In an emergency call 120.',
];

export function notice(): string {
  return NOTICE.map((line) => pc.dim(line)).join('\n');
}

/** The emergency banner, '' where the text names no danger sign. */
export function dangerBanner(text: string): string {
  const signs = findDangerSigns(text);
  if (signs.length === 0) return '';
  const { zh, en } = emergencyAdvice;
  return [
    pc.bold(pc.red(`!!! ${zh.title}`)),
    pc.bold(pc.red(`!!! ${en.title}`)),
    `${zh.found}：${signs.map((sign) => sign.zh).join('；')}`,
    `${en.found}: ${signs.map((sign) => sign.en).join('; ')}`,
    ...zh.steps.map((step) => `  · ${step}`),
    pc.dim(zh.note),
  ].join('\n');
}

/** The line after an answer. */
export function statistics(result: GenerateResult, info: Engine, seed: number): string {
  const rate = (value: number): string => (value === 0 ? '-' : value.toFixed(1));
  const dropped = result.droppedQuestions;
  const left = dropped === 0 ? [] : [`the oldest ${dropped} questions were left out`];
  const reused = result.reusedTokens === 0 ? '' : ` (${result.reusedTokens} reused)`;
  return pc.dim(
    [
      `prompt ${result.promptTokens} tokens${reused}`,
      ...left,
      `prefill ${rate(result.prefillTokensPerSecond)} tok/s`,
      `decode ${rate(result.decodeTokensPerSecond)} tok/s`,
      `output ${result.outputTokens} tokens, ${result.finish}`,
      `seed ${seed}`,
      `${info.backend} ${info.variant} on ${info.adapter}`,
    ].join(' · '),
  );
}

type Engine = Pick<ModelInfo, 'backend' | 'variant' | 'adapter'>;

const failures: Record<FailureName, readonly [zh: string, en: string]> = {
  NoWebGpu: ['没有可用的 WebGPU 适配器', 'no WebGPU adapter on this machine'],
  DeviceLost: ['GPU 停止了响应', 'the GPU stopped answering'],
  WorkerLost: ['计算部分意外停止', 'the part that computes stopped by itself'],
  WorkerHung: ['没有进展的计算已结束', 'a computation that did not move was ended'],
  PartMissing: ['程序的一部分没有取到', 'a part of the program did not come'],
  DeviceLimit: ['GPU 达不到要求', 'this GPU does not offer what is needed'],
  CpuLimit: ['ONNX Runtime 运行不了这个模型', 'ONNX Runtime cannot run this model on the CPU'],
  WrongNumbers: ['GPU 算出的数值与记录不符', 'the GPU computes other numbers than recorded'],
  BadManifest: ['manifest.json 不符合格式', 'manifest.json does not follow the format'],
  BadTokenizer: ['tokenizer.json 无法读取', 'tokenizer.json cannot be read'],
  BadCheckpoint: ['检查点无法读取', 'the checkpoint cannot be read'],
  BadRecipe: ['量化配方不能使用', 'the recipe for rounding weights cannot be used'],
  BadSignature: ['模型签名不可信', 'the model is not signed by a trusted key'],
  BadLibrary: ['导入模型的程序库不能运行', 'the library of an imported model cannot run'],
  BadPackage: ['模型包内容不一致', 'the files of the package do not fit together'],
  NotFound: ['找不到模型包文件', 'a file of the model package is not there'],
  NotAShard: ['得到的不是模型文件', 'this is not a model file'],
  ShardTruncated: ['模型文件长度不对', 'a model file has the wrong length'],
  ShardCorrupt: ['模型文件已损坏', 'a model file is damaged'],
  ServerError: ['服务器出错', 'the server cannot answer'],
  Stalled: ['很久没有收到数据', 'no byte came for a long time'],
  OtherOrigin: ['不能从别的网站取模型', 'an address of another site'],
  BadFolder: ['文件夹里没有可用的模型包', 'the folder holds no package that can be used'],
  Offline: ['网络不可用', 'the network does not answer'],
  StorageFull: ['存储空间不足', 'there is no room left'],
  StorageBlocked: ['存储被禁用', 'storage is blocked'],
  StorageBroken: ['存储出错', 'the storage failed'],
  StorageCleared: ['存储已被清除', 'the storage was cleared'],
  WrongPassphrase: ['口令不对', 'This is not the passphrase'],
  RecordsLocked: ['咨询记录已上锁', 'The consultation records are locked'],
  RecordsNewer: [
    '咨询记录由更新版本的程序写成',
    'A newer edition of this program wrote the records',
  ],
  RecordsChanged: ['另一个窗口改动了全部咨询记录', 'Another window changed all records'],
  RecordDamaged: ['有一条咨询记录读不出来', 'A record cannot be read'],
  BadImport: ['这个文件不能导入', 'This file cannot be imported'],
  NewerImport: [
    '这个文件由更新版本的程序导出',
    'A newer edition of this program exported this file',
  ],
  PromptTooLong: ['对话太长，模型放不下', 'the conversation is too long for the model'],
  EmptyPrompt: ['没有输入问题', 'there is no question'],
  NotRouted: ['这个模型包没有逐词元路由', 'this package has no per-token router'],
  UnknownTask: ['没有这个任务', 'this package has no such task'],
  OtherWindow: ['另一个窗口正在使用模型', 'another window uses the model'],
  NoModel: ['选定的模型不在这台设备上', 'the chosen model is not on this device'],
  Busy: ['正在回答上一个问题', 'an answer is still running'],
  Cancelled: ['已停止', 'stopped'],
  Usage: ['用法不对', 'this command line does not make sense'],
};

/** One sentence for a failure, in both languages, with its detail. Never a stack. */
export function failureLine(error: unknown): string {
  const name = failureName(error);
  const detail = error instanceof Error ? error.message : String(error);
  const [zh, en] = name === 'Bug' ? ['程序内部错误', 'an error in this program'] : failures[name];
  return pc.red(`${zh} / ${en}: ${detail}`);
}

/** 2 for a wrong command line, 1 for everything else that ends a run. */
export function exitCode(error: unknown): number {
  const name = failureName(error);
  return name === 'Usage' || name === 'UnknownTask' ? 2 : 1;
}
