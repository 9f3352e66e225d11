import pc from 'picocolors';
import type { AdapterInfo, Manifest, TensorInfo } from '../src/format/manifest.ts';

/** A package for a person's eyes. @returns lines of text */
export function inspect(manifest: Manifest): readonly string[] {
  const { config, provenance, adapter, knownAnswer, quantization, sampling } = manifest;
  const { recipe } = provenance;
  const [base, extra] = [sizeOf(manifest, false), sizeOf(manifest, true)];
  const bytes = manifest.files.reduce((sum, file) => sum + file.bytes, 0);
  const rows: [string, string][] = [
    ['model', `${pc.bold(manifest.id)}  ${manifest.name.en} / ${manifest.name.zh}`],
    ['licence', manifest.licence],
    ['use', manifest.intendedUse.en],
    ['limits', manifest.limits.en],
    [
      'config',
      `${config.architecture}: ${config.layers} layers, width ${config.width}, ` +
        `${config.heads} heads of ${config.headDim} over ${config.kvHeads} of keys, ` +
        `MLP ${config.mlpWidth}, vocabulary ${number(config.vocab)}${config.tiedHead ? ', tied' : ''}, ` +
        `${config.capacity} ${config.positions.kind === 'rope' ? 'rotary' : 'ALiBi'} positions`,
    ],
    ['size', `${megabytes(bytes)} in ${manifest.files.length} files`],
    ['base', sizeLine(base)],
    ['adapter', adapter === null ? 'none' : `${adapterLine(adapter)}; ${sizeLine(extra)}`],
    [
      'quantized',
      `by ${quantization.origin}, ${recipe === undefined ? '' : `recipe ${recipe.name}, `}` +
        `groups of ${quantization.group}`,
    ],
    [
      'sampling',
      Object.entries(sampling)
        .map(([key, value]) => `${key} ${value}`)
        .join(', '),
    ],
    ['test', knownAnswer === null ? pc.yellow('no known answers') : knownLine(knownAnswer)],
    ['converter', provenance.converter],
    ['checkpoint', provenance.checkpointSha256],
  ];
  const width = Math.max(...rows.map(([title]) => title.length));
  return [
    ...rows.map(([title, text]) => `${pc.dim(title.padEnd(width))}  ${text}`),
    ...section(
      'tasks',
      manifest.tasks.map(({ id, title }) => [id, `${title.en} / ${title.zh}`]),
    ),
    ...origin(manifest.provenance),
    ...section('tensors', kinds(manifest.tensors)),
    ...section(
      'files',
      manifest.files.map(({ name, bytes, sha256 }) => [
        name,
        `${number(bytes).padStart(11)} bytes  ${sha256.slice(0, 16)}`,
      ]),
    ),
  ];
}

/** Where the weights come from: stages of training, data, measured numbers. */
function origin(provenance: Manifest['provenance']): string[] {
  return [
    ...section(
      'stages',
      provenance.stages.map(({ name, steps, tokens, seconds, loss }) => [
        name,
        `${number(steps)} steps, ${number(tokens)} tokens, ${number(Math.round(seconds))} s` +
          (loss === null ? '' : `, loss ${loss.toFixed(4)}`),
      ]),
    ),
    ...section(
      'data',
      provenance.data.map(({ source, licence, records }) => [
        source,
        `${number(records)} records, ${licence}`,
      ]),
    ),
    ...section(
      'metrics',
      Object.entries(provenance.metrics).map(([name, value]) => [name, String(value)]),
    ),
  ];
}

interface Size {
  readonly parameters: number;
  readonly bytes: number;
}

function sizeOf({ tensors }: Manifest, ofAdapter: boolean): Size {
  const mine = tensors.filter(({ name }) => name.startsWith('adapter.') === ofAdapter);
  const parameters = mine.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  const blocks = mine.flatMap((tensor) => tensor.blocks);
  return { parameters, bytes: blocks.reduce((sum, { bytes }) => sum + bytes, 0) };
}

function sizeLine({ parameters, bytes }: Size): string {
  const bits = ((8 * bytes) / Math.max(parameters, 1)).toFixed(2);
  return `${number(parameters)} parameters, ${megabytes(bytes)}, ${bits} bits per weight`;
}

function adapterLine({
  mode,
  router,
  experts,
  rank,
  alpha,
  targets,
  linears,
}: AdapterInfo): string {
  const gates = router === 'absent' ? 'router absent, uniform gates' : 'router trained';
  return (
    `${mode}, ${gates}, ${experts} experts of rank ${rank}, alpha ${alpha}, ` +
    `${linears.length} linears (${targets.join(', ')})`
  );
}

function knownLine({ tasks, tolerance }: NonNullable<Manifest['knownAnswer']>): string {
  const counts = Object.entries(tasks).map(
    ([task, { tokens, greedy }]) => `${task} ${tokens.length}+${greedy.length} tokens`,
  );
  return `${counts.join(', ')}; tolerance ${tolerance.f32} (f32), ${tolerance.f16} (f16)`;
}

/** Tensors with the layer numbers taken out, counted. */
function kinds(tensors: readonly TensorInfo[]): [string, string][] {
  const counts = new Map<string, number>();
  for (const { name, dtype, shape } of tensors) {
    const kind = `${name.replace(/\d+/, '*')}\t${dtype} [${shape.join(', ')}]`;
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return [...counts].map(([kind, count]) => {
    const [name, form] = kind.split('\t');
    return [name ?? '', `${count} x ${form}`];
  });
}

function section(title: string, rows: readonly (readonly [string, string])[]): string[] {
  if (rows.length === 0) return [];
  const width = Math.max(...rows.map(([name]) => name.length));
  return ['', pc.bold(title), ...rows.map(([name, text]) => `  ${name.padEnd(width)}  ${text}`)];
}

function number(value: number): string {
  return value.toLocaleString('en-US');
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(2)} MB`;
}
