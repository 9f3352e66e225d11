import { aiLabel, plain, quoted } from '../../store/records.ts';
import type { PeerModel, SideRequest } from '../../peer/api.ts';
import type { CompareWords } from './words-zh.ts';
import type { Run } from './run.svelte.ts';

/** A comparison as a file: what was asked, what came, on which machine. */

const FORMAT = 'pediatricsgpt-comparison';
const VERSION = 1;

export interface Comparison {
  readonly request: SideRequest;
  readonly runs: readonly Run[];
  /** The imported model, where one of the sides is it. */
  readonly imported: PeerModel | null;
  /** What the browser tells about its machine. */
  readonly machine: {
    readonly browser: string;
    readonly cores: number | null;
    readonly memoryGigabytes: number | null;
  };
  readonly app: string; // its version
  readonly time: string;
}

/** The comparison as the text of a JSON file; the label stands in fields of its own. */
export function jsonOf(comparison: Comparison): string {
  const { request, runs, machine, app, time } = comparison;
  const file = {
    format: FORMAT,
    version: VERSION,
    /** Metadata that says what this is to a program: the answers were made by models. */
    aiGenerated: true,
    label: aiLabel,
    generator: { app: 'PediatricsGPT Web', version: app },
    exported: time,
    machine,
    question: request.question,
    system: request.system,
    sampling: request.sampling,
    seed: request.seed,
    sides: runs.map((run) => ({
      kind: run.choice.kind,
      title: run.choice.title,
      asked: run.choice.asked,
      isPediatricsGPT: run.choice.kind === 'ours',
      ...(run.choice.kind === 'peer' && { imported: importedOf(comparison) }),
      ran: run.model,
      state: run.state,
      failure: run.trouble?.name ?? null,
      firstTokenMs: run.firstMs,
      text: run.text,
      ...(run.result !== null && { facts: factsOf(run) }),
    })),
  };
  return `${JSON.stringify(file, null, 1)}\n`;
}

/** The same as Markdown, in the language of the person, with the label at both ends. */
export function markdownOf(
  comparison: Comparison,
  w: CompareWords,
  failureTitle: (run: Run) => string,
): string {
  const { request, runs, machine, time } = comparison;
  const { sampling, seed } = request;
  const label = `**${aiLabel.zh}**\n\n**${aiLabel.en}**`;
  const sampled = w.settings(
    sampling.temperature,
    sampling.topP,
    sampling.topK,
    sampling.repetitionPenalty,
    sampling.maxTokens,
  );
  const cores = machine.cores ?? w.unknown;
  const facts = [
    `- ${w.file.time}: ${time}`,
    `- ${w.file.machine}: ${plain(machine.browser)} · ${cores} · ${machine.memoryGigabytes ?? w.unknown} GB`,
    `- ${w.file.sampling}: ${sampled} · ${w.seed(seed)}`,
    ...(request.system === '' ? [] : [`- ${w.file.system}: ${plain(request.system)}`]),
  ];
  const sides = runs.map((run, i) => {
    const rows = factRows(run, w).map(({ name, value }) => `- ${name}: ${plain(value)}`);
    const hashes =
      run.choice.kind === 'peer' && comparison.imported !== null
        ? [
            `- ${w.file.library}: ${comparison.imported.library.sha256}`,
            `- ${w.file.manifest}: ${comparison.imported.manifest.sha256}`,
          ]
        : [];
    const failure = run.trouble === null ? [] : [`- ${w.file.failure}: ${failureTitle(run)}`];
    return [
      `## ${w.side(i + 1)} · ${plain(run.choice.title)}`,
      ...(run.choice.kind === 'peer' ? [`**${w.notOurs}**`] : []),
      [...rows, ...hashes, ...failure].join('\n'),
      run.text.trim() === '' ? `*${w.file.noAnswer}*` : quoted(run.text.trim()),
    ].join('\n\n');
  });
  const question = `## ${w.file.question}\n\n${quoted(request.question)}`;
  return (
    [label, `# ${w.file.title}`, facts.join('\n'), question, ...sides, label].join('\n\n') + '\n'
  );
}

/** What is known of a side's run, as rows for a reader. */
export function factRows(run: Run, w: CompareWords): readonly { name: string; value: string }[] {
  const { model, result, firstMs } = run;
  if (model === null) return [];
  const { facts } = w;
  const computed = [w.ran[model.backend], model.variant, model.adapter];
  const rows = [
    { name: facts.model, value: model.model },
    { name: facts.computed, value: computed.filter((part) => part !== '').join(' · ') },
  ];
  if (firstMs !== null) {
    rows.push({ name: facts.first, value: w.seconds((firstMs / 1000).toFixed(2)) });
  }
  if (result === null) return rows;
  const { prefillTokensPerSecond: prefill, decodeTokensPerSecond: decode } = result;
  const { promptTokens, reusedTokens, outputTokens, finish } = result;
  rows.push(
    { name: facts.prefill, value: speed(prefill, w) },
    { name: facts.decode, value: speed(decode, w) },
    { name: facts.tokens, value: w.tokens(promptTokens, reusedTokens, outputTokens) },
    { name: facts.finish, value: w.finish[finish] },
  );
  return rows;
}

/** A speed of which nothing could be measured is none. */
const speed = (tokensPerSecond: number, w: CompareWords): string =>
  Number.isFinite(tokensPerSecond) && tokensPerSecond > 0
    ? w.perSecond(tokensPerSecond.toFixed(1))
    : w.unknown;

function factsOf({ result }: Run) {
  if (result === null) return null;
  const { promptTokens, reusedTokens, outputTokens, finish } = result;
  const { prefillTokensPerSecond, decodeTokensPerSecond } = result;
  return {
    promptTokens,
    reusedTokens,
    outputTokens,
    prefillTokensPerSecond,
    decodeTokensPerSecond,
    finish,
  };
}

function importedOf({ imported }: Comparison) {
  if (imported === null) return null;
  const { library, manifest, bytes, tensors, hasChecksums } = imported;
  return { library, manifest, bytes, tensors, hasChecksums };
}
