import { existsSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, globals } from 'webgpu';
import { Failure } from '../failure.ts';
import { isSoftware } from '../gpu/tuning.ts';
import { restBetweenPolls } from './polls.ts';

/** The oldest Mesa whose software driver gives Dawn an adapter. */
const OLDEST_MESA = 25;

/** Where Vulkan drivers say that they are there. */
const ICD_FOLDERS = [
  '/etc/vulkan/icd.d',
  '/usr/local/share/vulkan/icd.d',
  '/usr/share/vulkan/icd.d',
];
/** SwiftShader comes with Chromium and Chrome. */
const BROWSER_FOLDERS = [
  '/usr/lib/chromium',
  '/usr/lib/chromium-browser',
  '/usr/lib64/chromium-browser',
  '/opt/google/chrome',
  '/opt/chromium.org/chromium',
];
const GPU_NODES = ['/dev/nvidiactl', '/dev/dxg', '/dev/kfd'];

const HOW_TO_GET_ONE =
  'install a GPU driver with Vulkan, or for a software one the Debian package chromium ' +
  `(SwiftShader) or mesa-vulkan-drivers ${OLDEST_MESA} or newer`;

/** WebGPU of this machine: hand `gpu` to `requestGpu`, and call `release` at the end. */
export interface NodeGpu {
  readonly gpu: GPU;
  /** Which driver was taken and why, for a person. */
  readonly driver: string;
  release(): void;
}

/** A driver that may be tried. */
export interface DriverChoice {
  readonly label: string;
  /** What VK_DRIVER_FILES has to say; null leaves it as it is. */
  readonly driverFiles: string | null;
  /** False for a choice that counts only when it finds a real GPU. */
  readonly software: boolean;
}

/** Objects of `create()`: the process dies when one is collected while its device is in use. */
const alive = new Set<GPU>();

/**
 * Finds a Vulkan driver (Metal or Direct3D where Vulkan is not the way) that gives an adapter:
 * the one in VK_DRIVER_FILES if that is set, else a real GPU, else lavapipe, else SwiftShader.
 * Sets environment variables of this process that the Vulkan loader reads, and leaves the cores to a
 * driver in software while it is waited for.
 * @throws Failure NoWebGpu that says what was tried and how to get a driver
 */
export async function findGpu(env: NodeJS.ProcessEnv = process.env): Promise<NodeGpu> {
  Object.assign(globalThis, globals);
  env['XDG_RUNTIME_DIR'] ??= tmpdir(); // the loader complains where it is missing
  const tried: string[] = [];
  for (const choice of driverChoices(env)) {
    if (choice.driverFiles !== null) env['VK_DRIVER_FILES'] = choice.driverFiles;
    const gpu = create([]);
    alive.add(gpu);
    const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
    const wrong = refusal(choice, adapter?.info ?? null);
    if (wrong === null) {
      if (adapter !== null && isSoftware(adapter.info)) restBetweenPolls();
      const driver = `${adapter?.info.description ?? ''}, ${choice.label}`;
      return { gpu, driver, release: () => alive.delete(gpu) };
    }
    tried.push(`${choice.label}: ${wrong}`);
    alive.delete(gpu);
  }
  const list = tried.length === 0 ? 'no Vulkan driver is installed' : tried.join('; ');
  throw new Failure('NoWebGpu', `${list}. To get one: ${HOW_TO_GET_ONE}`);
}

/** What to try, best first. */
export function driverChoices(
  env: NodeJS.ProcessEnv,
  exists: (path: string) => boolean = existsSync,
  list: (folder: string) => string[] = filesIn,
): DriverChoice[] {
  const chosen = env['VK_DRIVER_FILES'] ?? env['VK_ICD_FILENAMES'] ?? '';
  if (chosen !== '') return [{ label: `driver ${chosen}`, driverFiles: null, software: true }];
  if (process.platform !== 'linux') {
    return [{ label: 'the system driver', driverFiles: null, software: true }];
  }
  const choices: DriverChoice[] = [];
  const renderNode = list('/dev/dri').some((name) => name.startsWith('renderD'));
  if (renderNode || GPU_NODES.some(exists)) {
    choices.push({ label: 'the system GPU', driverFiles: null, software: false });
  }
  for (const folder of ICD_FOLDERS) {
    for (const name of list(folder).filter((file) => /^lvp_icd.*\.json$/.test(file))) {
      choices.push({ label: `lavapipe ${name}`, driverFiles: join(folder, name), software: true });
    }
  }
  for (const folder of BROWSER_FOLDERS) {
    const path = join(folder, 'vk_swiftshader_icd.json');
    if (exists(path)) choices.push({ label: 'SwiftShader', driverFiles: path, software: true });
  }
  return choices;
}

/** Why an adapter will not do, null where it will. */
export function refusal(
  choice: DriverChoice,
  info: Pick<GPUAdapterInfo, 'description' | 'isFallbackAdapter'> | null,
): string | null {
  if (info === null) {
    const mesa = /lvp_icd/.test(choice.driverFiles ?? choice.label);
    const hint = mesa ? `; Mesa older than ${OLDEST_MESA} gives none` : '';
    return `no WebGPU adapter${hint}`;
  }
  if (info.isFallbackAdapter && !choice.software) return 'no real GPU answered';
  const mesa = /llvmpipe.*Mesa (\d+)/.exec(info.description)?.[1];
  if (mesa !== undefined && Number(mesa) < OLDEST_MESA) {
    return `Mesa ${mesa} is too old, ${OLDEST_MESA} or newer is needed`;
  }
  return null;
}

function filesIn(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}
