import { stallEn } from '../shell/stall-words.ts';
import type { CompareWords } from './words-zh.ts';

export const compareEn: CompareWords = {
  lead: 'One question, answered once by each side. To spare memory the sides run one after the other, with the same sampling settings and the same seed; meanwhile the chat’s model leaves the memory, and is loaded again when you leave this page. Neither question nor answers go into the records.',
  side: (n) => `Side ${n}`,
  model: 'Model',
  noModel: 'No model on this device yet',
  backend: 'What computes',
  backends: { webgpu: 'Graphics device (WebGPU)', cpu: 'Processor' },
  task: 'Task',
  peerOption: 'Imported MLC model (WebLLM)',
  notInstalled: 'not installed yet: fetched from this site first',
  question: 'Question',
  placeholder: 'Both sides will answer this question.',
  start: 'Compare',
  stop: 'Stop',
  stopping: 'Stopping…',
  hindrance: {
    question: 'Write a question first.',
    answer: 'An answer is running in the chat: wait for its end, or stop it.',
    loading: 'The chat’s model is being loaded: one moment.',
    model: 'Choose a model for each side first.',
    peer: 'Import the folder of an MLC model below first.',
  },
  looking: 'Looking which models are here…',
  results: 'The two answers',
  states: {
    waiting: 'Waiting: the other side runs first',
    loading: 'Loading the model',
    answering: 'Answering',
    done: 'Answered',
    stopped: 'Stopped',
    failed: 'Not finished',
    skipped: 'Not run: stopped before its turn',
  },
  stall: {
    answer: stallEn.answer,
    load: stallEn.load,
    silent: stallEn.silent,
    wait: stallEn.wait,
    choice:
      'This device may just be slow or busy, or this side may be stuck. You can keep waiting, or end this side: what it has written stays, and the other side runs all the same.',
    end: 'End this side',
    ending: 'Ending…',
    todo: 'What it has written stays. To try again, compare once more.',
  },
  ran: {
    wgsl: 'graphics device (this project’s shaders)',
    onnx: 'processor (ONNX Runtime)',
    'web-llm': 'graphics device (WebLLM)',
  },
  facts: {
    model: 'Model',
    computed: 'Computed by',
    first: 'First token',
    prefill: 'Reading',
    decode: 'Writing',
    tokens: 'Tokens',
    finish: 'Ended by',
  },
  perSecond: (n) => `${n} tokens/s`,
  seconds: (n) => `${n} s`,
  tokens: (prompt, reused, output) =>
    `question ${prompt}${reused > 0 ? ` (${reused} of them computed before)` : ''}, answer ${output}`,
  finish: { stop: 'the model itself', length: 'the length limit', cancelled: 'being stopped' },
  unknown: 'unknown',
  settings: (temperature, topP, topK, penalty, most) =>
    `temperature ${temperature}, top-p ${topP}, top-k ${topK}, repetition penalty ${penalty}, at most ${most} tokens`,
  seed: (seed) => `seed ${seed}`,
  seedNote: 'Different ways of computing may give different answers for the same seed.',
  peerSampling: 'WebLLM has no top-k and draws random numbers of its own.',
  notOurs:
    'This is not PediatricsGPT: it has none of this project’s pediatric training and evaluation; whoever provides it answers for what it is.',
  speedNote:
    'The speeds are those of this device and this one time; the side that runs second may feel the first (heat, caches).',
  copy: 'Copy as Markdown',
  copied: 'Copied',
  copyFailed: 'It could not be copied: download it instead.',
  markdown: 'Download Markdown',
  json: 'Download JSON',
  import: {
    title: 'Import an MLC model',
    lead: 'Choose a folder with mlc-chat-config.json, tensor-cache.json (or ndarray-cache.json), every params_shard_*.bin, the tokenizer and one compiled library (.wasm, for web-llm 0.2.86). It runs on a graphics device only. The files stay where they are, neither copied nor sent; after this page is closed they have to be chosen again.',
    folder: 'Choose a folder',
    files: 'Choose several files',
    checking: 'Checking the files…',
    cancel: 'Cancel',
    remove: 'Remove',
    good: 'Checked, and good',
    facts: (size, tensors, context) =>
      `${size} of weights, ${tensors} tensors, context of ${context} tokens`,
    sliding: 'sliding',
    library: (name, size) => `SHA-256 of the library ${name} (${size})`,
    manifest: (name) => `SHA-256 of the manifest ${name}`,
    compareHash:
      'Compare them with what the provider has published: the library is code that will run here.',
    sums: 'Size and MD5 of every weight file are what the manifest says.',
    noSums: 'The manifest has no MD5 sums: only the sizes were compared.',
    f16: 'It needs half precision (shader-f16), which this graphics device has.',
    wrong: 'This folder cannot be used',
  },
  problems: {
    'no-config': () =>
      'There is no mlc-chat-config.json. Choose the folder that directly holds this file (or the one above it).',
    'several-models': (_, names) =>
      `It holds more than one model: ${names}. Choose the folder of one of them.`,
    'too-many-files': () => 'Too many files for a model’s folder. Choose the model’s own folder.',
    missing: (file) => `The file ${file} is missing. Put it into the folder and choose it again.`,
    twice: (file, name) =>
      `${name === '' ? file : `${name} in ${file}`} is there twice. Get a whole copy of the model.`,
    'bad-name': (file, name) =>
      `${file} names a file that is not allowed: ${name}. Names may hold no path and no special characters; do not use this copy of the model.`,
    'too-large': (file, bytes) =>
      `${file} is impossibly large (${bytes} bytes). Is this the right folder?`,
    config: (file, detail) =>
      `${file} does not follow its format: ${detail}. It needs MLC’s conversation settings (conv_template), tokenizer files and a context length; make it anew with mlc_llm gen_config.`,
    manifest: (file, detail) =>
      `${file} contradicts itself or does not follow its format: ${detail}. Get the model again.`,
    size: (file, detail) =>
      `${file} has not as many bytes as the manifest says (${detail}). Copy or download this file again.`,
    checksum: (file) =>
      `The content of ${file} is not what the manifest’s MD5 says: the file is damaged. Copy or download it again.`,
    'no-library': () =>
      'There is no library (.wasm). It is published apart from the weights: put the one that was compiled for this model into the same folder.',
    'several-libraries': (_, names) =>
      `There is more than one library: ${names}. Leave only the one to use.`,
    'not-wasm': (file) => `${file} is no whole WebAssembly file. Get it again.`,
    'not-tvm': (file, detail) =>
      `${file} is WebAssembly, but no library of a model that TVM/MLC compiled (it lacks ${detail}).`,
    'old-library': (file) =>
      `${file} was compiled for an older version. Use a library for web-llm 0.2.80 or newer.`,
    unreadable: (file, detail) =>
      `${file === '' ? 'A file' : file} cannot be read (${detail}): perhaps it was changed or moved while it was read, or the stick was pulled out. Choose it again.`,
    'no-webgpu': () =>
      'The files are good, but this browser has no graphics device to offer (WebGPU), and imported models run on one only.',
    'needs-f16': () =>
      'The files are good, but the library computes in half precision (shader-f16), which this graphics device does not have. Use a q4f32 model with its library.',
    'gpu-too-small': (_, detail) =>
      `The files are good, but this graphics device is below what WebLLM asks for: ${detail}.`,
  },
  file: {
    title: 'Comparison of models',
    question: 'Question',
    system: 'System text',
    machine: 'Device',
    sampling: 'Sampling',
    answer: 'Answer',
    noAnswer: 'No answer.',
    failure: 'Failure',
    library: 'SHA-256 of the library',
    manifest: 'SHA-256 of the manifest',
    time: 'Time',
  },
};
