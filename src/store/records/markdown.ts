import type { Child, Consultation } from './shapes.ts';
import { aiLabel } from './transfer.ts';
import { pathTo } from './tree.ts';

/** The words around a consultation, in the language of the person who exports it. */
export interface MarkdownWords {
  readonly child: string;
  readonly task: string;
  readonly begun: string;
  readonly question: string;
  readonly answer: string;
  readonly notFinished: string;
}

/** Text that a Markdown reader shows as it is: no headings, links, images or HTML come of it. */
export function plain(text: string): string {
  return text.replace(/[\\`*_[\]{}<>#|~!&]/g, '\\$&');
}

/** Every line a quotation, so that a line that looks like a list or a rule stays a line of text. */
export function quoted(text: string): string {
  return text
    .split(/\r\n|[\n\r\u2028\u2029]/)
    .map((line) => `> ${plain(line)}`.trimEnd())
    .join('  \n');
}

/** The branch that is shown, as Markdown, with the label at both ends. */
export function markdownOf(
  consultation: Consultation,
  child: Child | null,
  words: MarkdownWords,
  taskTitle: string,
): string {
  const label = `**${aiLabel.zh}**\n\n**${aiLabel.en}**`;
  const facts = [
    ...(child ? [`- ${words.child}: ${plain(child.nickname)}`] : []),
    `- ${words.task}: ${plain(taskTitle)}`,
    `- ${words.begun}: ${consultation.created}`,
  ];
  const said = pathTo(consultation.messages, consultation.leaf).map((message) => {
    const { role, text, time, model, state } = message;
    const by = role === 'user' ? words.question : words.answer;
    const note = role === 'assistant' && model !== null ? ` · ${plain(model)}` : '';
    const end = state === 'done' ? '' : `\n\n*${words.notFinished}*`;
    return `## ${by} · ${time}${note}\n\n${quoted(text)}${end}`;
  });
  const title = plain(consultation.title.replace(/\s+/g, ' '));
  return [label, `# ${title}`, facts.join('\n'), ...said, label].join('\n\n') + '\n';
}
