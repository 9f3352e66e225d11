import type { Turn } from '../../worker/api.ts';
import type { Records } from '../conversation.ts';

/** Conversations kept in memory, and how often that happened. */
export class FakeRecords implements Records {
  readonly kept = new Map<string, readonly Turn[]>();
  readonly saved: (readonly Turn[])[] = [];
  /** Thrown by every save while it is set. */
  failure: Error | null = null;

  load(task: string): Promise<{ readonly turns: readonly Turn[] } | null> {
    const turns = this.kept.get(task);
    return Promise.resolve(turns ? { turns } : null);
  }

  save(task: string, turns: readonly Turn[]): Promise<boolean> {
    if (this.failure) return Promise.reject(this.failure);
    this.kept.set(task, structuredClone(turns));
    this.saved.push(structuredClone(turns));
    return Promise.resolve(true);
  }

  clear(task: string): Promise<void> {
    this.kept.delete(task);
    return Promise.resolve();
  }
}
