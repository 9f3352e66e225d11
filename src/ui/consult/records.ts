import { DatabasePlace, type LegacyMarks, RecordStore } from '../../store/records.ts';
import { recallJson } from '../memory.ts';

/** The records of this browser. The first edition kept beside them how each answer ended. */
export function browserRecords(): RecordStore {
  return new RecordStore(new DatabasePlace(), { legacyMarks });
}

function legacyMarks(task: string): LegacyMarks {
  const found = recallJson(`marks.${task}`);
  if (!Array.isArray(found)) return [];
  return found.map((mark: unknown) => (mark === 'stopped' || mark === 'failed' ? mark : ''));
}
