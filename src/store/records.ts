/** What the page uses of the records room. */
export { type ChildDraft, childProblems, localDay } from './records/child.ts';
export type { LegacyMarks } from './records/legacy.ts';
export { type MarkdownWords, markdownOf, plain, quoted } from './records/markdown.ts';
export { DatabasePlace, MemoryPlace, type Place } from './records/place.ts';
export type { Hit } from './records/search.ts';
export type { Child, Consultation, Entry, Feedback, Intake, Message } from './records/shapes.ts';
export { type Listing, type RecordsState, RecordStore } from './records/store.ts';
export { titleOf } from './records/titles.ts';
export { newestLeaf, pathTo, siblingsOf } from './records/tree.ts';
export { aiLabel, exportText, type ImportPlan, limits, planImport } from './records/transfer.ts';
