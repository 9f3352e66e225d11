import { Failure } from '../failure.ts';
import type { CalibrationStore } from '../gpu/calibration-store.ts';
import type { GpuDevice } from '../gpu/device.ts';
import type { LoadProgress } from '../worker/api.ts';
import { FasterMaker, type FasterStore } from './faster.ts';
import {
  FallbackMaker,
  OnnxMaker,
  WgslMaker,
  type BackendMaker,
  type MakerParts,
  type OnnxMakerParts,
} from './recovery.ts';

/** What one engine may compute with, and where it tells how far loading is. */
interface Means extends Pick<MakerParts, 'manifest' | 'read' | 'selfTest' | 'signal'> {
  readonly gpu: GpuDevice | null;
  readonly renewGpu: (() => Promise<GpuDevice>) | undefined;
  readonly measurements: CalibrationStore | undefined;
  readonly cpu: OnnxMakerParts['runtime'] | undefined;
  readonly faster: FasterStore | undefined;
  readonly report: (phase: LoadProgress['phase'], bytesDone: number, bytesTotal: number) => void;
}

/** The GPU, the CPU, or one after the other. @throws Failure NoWebGpu where there is neither */
export function makerFor({
  gpu,
  renewGpu,
  measurements,
  cpu,
  faster,
  report,
  ...what
}: Means): BackendMaker {
  const onSelfTest = (): void => {
    report('self-test', 0, 0);
  };
  const into = (phase: 'upload' | 'memory'): MakerParts => ({
    ...what,
    onSelfTest,
    onUpload: ({ bytesDone, bytesTotal }) => {
      report(phase, bytesDone, bytesTotal);
    },
  });
  const onGpu = gpu && new WgslMaker({ ...into('upload'), gpu, renewGpu, measurements });
  const onCpu = cpu === undefined ? null : new OnnxMaker({ ...into('memory'), runtime: cpu });
  if (onGpu !== null && onCpu !== null) {
    const fallback = new FallbackMaker(onGpu, onCpu);
    const [task] = what.manifest.tasks;
    if (faster === undefined || task === undefined) return fallback;
    return new FasterMaker(fallback, onCpu, { store: faster, task: task.id });
  }
  const only = onGpu ?? onCpu;
  if (only === null) throw new Failure('NoWebGpu', 'there is no GPU, and no CPU was offered');
  return only;
}
