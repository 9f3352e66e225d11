/**
 * Who may import whom, as docs/architecture.md decides it. ESLint enforces it, and
 * src/rooms.test.ts plants a violation for every arrow that is not here.
 */

/** Every room, by the path that an import of it contains. */
export const rooms = {
  format: 'src/format',
  text: 'src/text',
  gpu: 'src/gpu',
  model: 'src/model',
  onnx: 'src/onnx',
  engine: 'src/engine',
  node: 'src/node',
  store: 'src/store',
  worker: 'src/worker',
  peer: 'src/peer',
  ui: 'src/ui',
  safety: 'src/safety',
  offline: 'src/offline',
  release: 'src/release',
  convert: 'convert',
  bench: 'src/bench',
  training: 'training',
  e2e: 'e2e',
};

/**
 * The arrows: room -> rooms it may import; `room/file` allows one file of a room only.
 * `src/failure.ts` is open to all of src and convert.
 */
export const arrows = {
  format: [],
  text: ['format'],
  gpu: ['format/dtype'],
  model: ['gpu', 'format'],
  onnx: ['format'],
  engine: ['model', 'onnx', 'gpu', 'text', 'format', 'worker/api'],
  node: ['engine', 'model', 'gpu', 'text', 'format', 'safety', 'worker/api'],
  store: ['format', 'worker/api'],
  worker: ['engine', 'store', 'gpu', 'offline/close-boundary'],
  peer: [
    'worker/api',
    'worker/pipe',
    'worker/engine-lock',
    'worker/life',
    'format/hash',
    'offline/close-boundary',
  ],
  ui: [
    'worker/api',
    'worker/client',
    'peer/api',
    'peer/client',
    'store/records',
    'offline/api',
    'safety',
  ],
  safety: [],
  offline: [],
  release: ['offline/headers'],
  convert: ['format', 'text', 'onnx', 'node'],
  bench: ['model', 'onnx', 'gpu', 'format', 'node', 'convert', 'peer'],
  e2e: ['ui/markdown/payloads'],
};

/** Packages that belong to some rooms only. */
const packages = {
  comlink: ['worker', 'peer'],
  '@mlc-ai/web-llm': ['peer'],
  '@noble/hashes': ['peer'],
  'idb-keyval': ['store'],
  svelte: ['ui'],
  '@solid-primitives/i18n': ['ui'],
  webgpu: ['node'],
  'node:': ['node', 'convert', 'bench', 'e2e', 'release'],
};
/** What tests may use beyond their room: the machine they run on. */
const testPackages = ['webgpu', 'node:'];

const escape = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

/** The rule for the files of one room. */
function rule(room, tests) {
  const allowed = arrows[room];
  const banned = [];
  for (const other of Object.keys(rooms)) {
    if (other === room || allowed.includes(other)) continue;
    const files = allowed
      .filter((a) => a.startsWith(`${other}/`))
      .map((a) => escape(a.slice(other.length + 1)));
    const except = files.length > 0 ? `(?!(?:${files.join('|')})\\.)` : '';
    banned.push({
      // A path into the room: '../gpu/x.ts', '../../convert/x.ts'; never the room's own './x.ts'.
      regex: `^\\.\\.?/(?:.*/)?${escape(other)}/${except}`,
      message: `${rooms[room]} may not import ${other}: see docs/architecture.md`,
    });
  }
  for (const [name, owners] of Object.entries(packages)) {
    if (owners.includes(room) || (tests && testPackages.includes(name))) continue;
    const end = name.endsWith(':') ? '' : '(?:$|/)';
    banned.push({ regex: `^${escape(name)}${end}`, message: `${name} is not for ${rooms[room]}` });
  }
  return { 'no-restricted-imports': ['error', { patterns: banned }] };
}

/** ESLint configs that carry the arrows. */
export const roomConfigs = Object.keys(arrows).flatMap((room) => {
  const base = rooms[room];
  const tests = [`${base}/**/*.test.ts`, `${base}/**/testing.ts`, `${base}/testing/**`];
  return [
    { files: [`${base}/**/*.{ts,js,mjs,svelte}`], rules: rule(room, false) },
    { files: tests, rules: rule(room, true) },
  ];
});

/** The page's half of the border knows nothing of the engine. */
roomConfigs.push({
  files: ['src/worker/client.ts', 'src/worker/api.ts'],
  rules: {
    'no-restricted-imports': [
      'error',
      {
        patterns: ['engine', 'store', 'gpu', 'model', 'text', 'format', 'ui', 'node'].map(
          (other) => ({
            regex: `^\\.\\.?/(?:.*/)?${other}/`,
            message: 'the page side of the border knows types only',
          }),
        ),
      },
    ],
  },
});
