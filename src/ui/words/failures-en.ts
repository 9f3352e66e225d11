import type { FailureName } from '../../failure.ts';
import type { FailureWords } from './failures-zh.ts';

/** What each failure means to a person, in English. */
export const failuresEn: Record<FailureName | 'Bug', FailureWords> = {
  NoWebGpu: {
    title: 'This browser cannot run the model on a graphics device',
    todo: 'Update to Chrome 121 or newer, look for WebGPU on chrome://gpu, or use another device.',
  },
  DeviceLost: {
    title: 'The graphics device stopped working',
    todo: 'It may have run out of memory, restarted its driver or slept. Your conversation is saved: reload the page.',
  },
  WorkerLost: {
    title: 'The part that computes the model stopped by itself',
    todo: 'Perhaps memory ran out. The words that are here stay, and the model is loaded again once by itself; then try again. If it stops again, close other tabs or choose a smaller model.',
  },
  WorkerHung: {
    title: 'You ended a computation that did not move',
    todo: 'The words that are here stay. Once the model is loaded again, let it go on or try again.',
  },
  PartMissing: {
    title: 'This part of the app did not come',
    todo: 'There may be no network, or the app was just updated. Nothing is lost: connect and reload the page.',
  },
  DeviceLimit: {
    title: 'The graphics device is too small for this model',
    todo: 'Close other programs that use it and try again, or use another device.',
  },
  CpuLimit: {
    title: 'This model cannot run on the processor alone',
    todo: 'In a browser it needs more memory than the processor’s program can have (32-bit WebAssembly: 4 GB), or it is built in a way that is not supported. Choose the graphics device in the settings, use a browser with WebGPU, or take a smaller model.',
  },
  WrongNumbers: {
    title: 'The self test failed: this device computes wrong numbers',
    todo: 'To be safe there will be no answers. Update the graphics driver and the browser and try again, or use another device.',
  },
  BadManifest: {
    title: 'The model’s manifest does not follow the format',
    todo: 'Model and page may be of different versions. Reload the page; if it stays, tell whoever provides the model.',
  },
  BadTokenizer: {
    title: 'The model’s tokenizer file cannot be used',
    todo: 'Ask whoever provides the model for a complete copy.',
  },
  BadCheckpoint: {
    title: 'The training checkpoint cannot be read',
    todo: 'Ask whoever provides the model to convert it again.',
  },
  BadRecipe: {
    title: 'The recipe for rounding weights cannot be used',
    todo: 'Correct the recipe file as the message says, or use the default one.',
  },
  BadSignature: {
    title: 'This model is not known to come from a trusted provider',
    todo: 'This site runs only models that are signed with its keys. This one has no signature or a wrong one, or this browser cannot check it (Ed25519). Update to Chrome 137 or newer and try again; if it stays, do not use this model and tell whoever provides it.',
  },
  BadPackage: {
    title: 'The model’s files do not fit together',
    todo: 'Try again; if it stays, ask whoever provides the model for a complete copy.',
  },
  BadLibrary: {
    title: 'The imported model cannot run',
    todo: 'Its library (.wasm) may be compiled for another version (this app has web-llm 0.2.86), for other weights or for another graphics device. Use the library that was compiled together with the weights.',
  },
  NotFound: {
    title: 'A model file was not found',
    todo: 'Check the model’s name in the address, or ask whoever provides the model to put the files in place, then try again.',
  },
  NotAShard: {
    title: 'A web page came instead of a model file',
    todo: 'A login page or a proxy may be in between. Make sure this site can be reached, then try again.',
  },
  ShardTruncated: {
    title: 'A model file is incomplete',
    todo: 'The network may have broken off. Try again: only that file is fetched anew.',
  },
  ShardCorrupt: {
    title: 'A model file does not match its record',
    todo: 'Try again: only that file is fetched anew. If it comes back, check the network or the storage.',
  },
  ServerError: {
    title: 'The server has a problem and cannot give the model files',
    todo: 'What has come so far is kept. Please try again later; if it stays, tell whoever provides the model.',
  },
  Stalled: {
    title: 'The network stopped: nothing has come for a long time',
    todo: 'What has come so far is kept. Check the network and continue: nothing is downloaded twice.',
  },
  OtherOrigin: {
    title: 'A model cannot come from another site',
    todo: 'To protect privacy this page speaks to its own site only. Put the model there, or download it into a folder or onto a USB stick and import it.',
  },
  BadFolder: {
    title: 'This folder holds no usable model, or its files are changing',
    todo: 'Choose the folder that has manifest.json in it, with one model only. Leave the USB stick in and the files alone while they are read.',
  },
  Offline: {
    title: 'No network, and the model is not on this device yet',
    todo: 'Connect once for the first load; after that no network is needed.',
  },
  StorageFull: {
    title: 'There is not enough storage on this device',
    todo: 'Free some space (or the data of other sites in this browser) and try again.',
  },
  StorageBlocked: {
    title: 'The browser does not let this page keep data',
    todo: 'It may be a private window or a setting. Use a normal window, or allow this site to store data.',
  },
  StorageBroken: {
    title: 'The browser’s storage failed',
    todo: 'The disk may be full or faulty. What was saved before is unchanged; first copy the important words of this page, then reload it. If this happens again, check the disk.',
  },
  StorageCleared: {
    title: 'What this site keeps in the browser was just cleared',
    todo: 'Consultations, models and offline files are no longer on this device. The conversations and children that are open in this window are still in memory and are not written back by themselves: export them if you need them, then reload the page.',
  },
  WrongPassphrase: {
    title: 'This is not the passphrase',
    todo: 'Check capitals and the input method and type it again. Nobody can recover a forgotten passphrase.',
  },
  RecordsLocked: {
    title: 'The consultation records are locked',
    todo: 'Unlock them with the passphrase, then try again.',
  },
  RecordsNewer: {
    title: 'A newer edition of this program wrote the records',
    todo: 'This window is an older edition and leaves them alone. Reload the page.',
  },
  RecordsChanged: {
    title: 'Another window changed all records',
    todo: 'What is shown here is not kept yet: copy what matters, then reload the page.',
  },
  RecordDamaged: {
    title: 'A record cannot be read',
    todo: 'It may be damaged or altered. The others are not touched; import a backup if there is one.',
  },
  BadImport: {
    title: 'This file cannot be imported',
    todo: 'Choose a JSON file that this program exported, unaltered and below the size limit. Nothing has been changed.',
  },
  NewerImport: {
    title: 'A newer edition of this program exported this file',
    todo: 'Update this program, then import it. Nothing has been changed.',
  },
  PromptTooLong: {
    title: 'The conversation is too long for the model',
    todo: 'Shorten the question, or start a new conversation.',
  },
  EmptyPrompt: {
    title: 'There is no question yet',
    todo: 'Write your question, then send it.',
  },
  NotRouted: {
    title: 'This model has no per-token routing',
    todo: 'Use the normal mode.',
  },
  UnknownTask: {
    title: 'This model does not have this task',
    todo: 'Choose another task.',
  },
  OtherWindow: {
    title: 'Another window is using the model',
    todo: 'Only one window can run the model. Earlier conversations can be read here. To ask here, press “Use it here”: the other window stops and keeps what it has.',
  },
  NoModel: {
    title: 'The chosen model is not on this device',
    todo: 'Choose or install a model on the models page.',
  },
  Busy: {
    title: 'The answer before this one is still running',
    todo: 'Wait for it or press stop, then try again.',
  },
  Cancelled: {
    title: 'Stopped',
    todo: 'What was there is kept; you can ask for the answer again.',
  },
  Usage: {
    title: 'This is not how it is used',
    todo: 'Check what was entered.',
  },
  Bug: {
    title: 'Something in this program went wrong',
    todo: 'It is the program’s fault, not yours. Try again; if it stays, open an issue on the project’s page with the code below and your browser’s version.',
  },
};
