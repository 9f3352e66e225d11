import { type Consultation, type Intake, newestLeaf, titleOf } from '../../store/records.ts';
import { type ChatMessage, type ChatTurn, keptMessage, nowText, turnsOf } from '../conversation.ts';

/** One consultation in hand: a tree of messages and the branch of it that is shown. */
export class Thread {
  readonly id: string;
  readonly task: string;
  readonly created: string;
  /** Whom a consultation that is not kept yet will be about; later it is the record that decides. */
  child = $state<string | null>(null);
  /** What is known of the child; the model is told of it before the first question. */
  intake = $state.raw<Intake | null>(null);
  messages = $state<ChatMessage[]>([]);
  leaf = $state<string | null>(null);
  readonly turns: readonly ChatTurn[] = $derived.by(() => turnsOf(this.messages, this.leaf));

  constructor(task: string, kept: Consultation | null = null) {
    this.id = kept?.id ?? crypto.randomUUID();
    this.task = task;
    this.created = kept?.created ?? nowText();
    if (!kept) return;
    this.child = kept.child;
    this.intake = kept.intake;
    this.messages = kept.messages.map((message) => ({ ...message, trouble: null, facts: null }));
    this.leaf = kept.leaf;
  }

  /** Adds a message as the new end of the shown branch; gives it as the page sees it. */
  add(message: ChatMessage): ChatMessage {
    this.messages.push(message);
    this.leaf = message.id;
    // Read back through the proxy: only changes made through it are seen by the page.
    const added = this.messages.at(-1);
    if (!added) throw new Error('the message that was just added is gone');
    return added;
  }

  /** Shows the branch of a message, to where it went on last. */
  show(id: string): void {
    this.leaf = newestLeaf(this.messages, id);
  }

  /** What a new question follows: an answer, or nothing. A question without one gets a sibling. */
  get end(): string | null {
    const last = this.messages.find(({ id }) => id === this.leaf);
    return last?.role === 'user' ? last.parent : (last?.id ?? null);
  }

  /** As it is kept; title, child and intake are taken the first time only. */
  record(): Consultation {
    const messages = this.messages.map(keptMessage);
    const { id, task, created, child, intake, leaf } = this;
    const title = titleOf(messages);
    return { id, child, task, title, created, updated: created, intake, messages, leaf };
  }
}
