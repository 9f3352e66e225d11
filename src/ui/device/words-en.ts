import type { deviceZh } from './words-zh.ts';

/** What the page about this device says, in English. */
export const deviceEn: typeof deviceZh = {
  lead: 'What this device can do, and what works without a network. If you need help, copy the report below for a technician: none of your questions or records is in it.',
  offline: 'Offline self-check',
  check: 'Check again',
  checks: {
    secure: 'Secure address (https or localhost)',
    worker: 'Offline program installed',
    shell: 'Files of the app stored',
    later: 'Files for computing on the CPU stored',
    model: 'Model stored, self-test passed',
    isolated: 'May use several processor cores',
    peers: 'Peer-to-peer connections removed',
    policy: 'Connections to other sites forbidden',
  },
  yes: 'Yes',
  no: 'No',
  partly: (kept, total) => `${kept} of ${total}`,
  unknown: 'Unknown',
  try: 'To see for yourself: switch on flight mode, reload this page and ask a question.',
  insecure:
    'This address is not a secure one (such as http://192.168…), so the browser has switched off GPU computing, offline storage and encryption. Use an https address, or run the server on this device and open http://localhost.',
  inApp:
    'This page may be open inside another app such as WeChat. Use its menu to open it in a browser: Chrome or Edge.',
  noWorker:
    'The offline program is not installed in this browser (a private window, a policy, or a certificate): the page will not open without a network.',
  facts: 'Device',
  browser: 'Browser',
  cores: 'Processor cores',
  memory: 'Memory (a hint by the browser)',
  memoryValue: (gigabytes) => `about ${gigabytes} GB or more`,
  gpu: 'GPU',
  gpuSoftware: (name) => `${name} (in software)`,
  gpuNone: 'no WebGPU adapter',
  f16: 'Half precision (f16)',
  subgroups: 'Subgroups',
  storage: 'Storage used by this site',
  storageValue: (used) => `${used} MB`,
  backend: 'Computing now',
  speed: 'Speed',
  speedHelp:
    'Lets the model answer a fixed short question and drops the answer. Takes seconds to a minute.',
  speedRun: 'Measure',
  speedRunning: 'Measuring …',
  speedResult: (prefill, decode, tokens) =>
    `reads ${prefill} tokens/s, writes ${decode} tokens/s (${tokens} tokens)`,
  speedNeedsModel: 'Needs a loaded model and no running answer.',
  install: 'Install',
  installNow: 'Install on this device',
  installed: 'Installed.',
  installHelp:
    'An installed app opens from the desktop or home screen, and the browser is less likely to clear the model and the records.',
  installNone: 'This browser offers no installation now; the app works offline without it.',
  installIos:
    'In Safari choose “Share”, then “Add to Home Screen”. GPU computing on an iPhone needs iOS 26.',
  installFirefox: 'Firefox on a desktop cannot install web apps; use Chrome or Edge.',
  report: 'Copy the device report',
};
