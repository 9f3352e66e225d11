import { type Consultation, MemoryPlace, type Place, RecordStore } from '../../store/records.ts';

/** Records in memory, and every version of a consultation that was kept. */
export class FakeRecords extends RecordStore {
  readonly place: Place;
  readonly saved: Consultation[] = [];
  /** Thrown by every save while it is set. */
  failure: Error | null = null;

  constructor(place: Place = new MemoryPlace()) {
    // Every record has a time of its own: the real clock gives two in one millisecond the same.
    let ticks = Date.now();
    super(place, { rounds: 10_000, now: () => new Date((ticks += 1)) });
    this.place = place;
  }

  override async keep(consultation: Consultation): Promise<void> {
    if (this.failure) throw this.failure;
    await super.keep(consultation);
    this.saved.push(structuredClone(consultation));
  }

  /** What was said in each version that was kept, along the branch that was shown. */
  get said(): readonly string[][] {
    return this.saved.map(({ messages }) => messages.map(({ text }) => text));
  }
}
