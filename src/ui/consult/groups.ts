import type { Child, Entry, Hit, Listing } from '../../store/records.ts';

/** The consultations of one child, or of none. */
export interface Group {
  readonly child: Child | null;
  readonly entries: readonly Entry[];
}

/**
 * The list as it is shown: whoever was talked about last comes first, those of no child last. With
 * hits, only what was found; without, children who have no consultation yet as well.
 */
export function groupsOf({ entries, children }: Listing, hits: readonly Hit[] | null): Group[] {
  const found = hits === null ? null : new Set(hits.map(({ id }) => id));
  const shown = found ? entries.filter(({ id }) => found.has(id)) : entries;
  const ids = new Set(children.map(({ id }) => id));
  const order: (string | null)[] = [];
  const byChild = new Map<string | null, Entry[]>();
  for (const entry of shown) {
    // A child that was deleted leaves its consultations to nobody.
    const owner = entry.child !== null && ids.has(entry.child) ? entry.child : null;
    const group = byChild.get(owner);
    if (group) group.push(entry);
    else {
      byChild.set(owner, [entry]);
      order.push(owner);
    }
  }
  if (hits === null) {
    for (const { id } of children) if (!byChild.has(id)) order.push(id);
  }
  const last = order.filter((owner) => owner === null);
  const first = order.filter((owner) => owner !== null);
  return [...first, ...last].map((owner) => ({
    child: children.find(({ id }) => id === owner) ?? null,
    entries: byChild.get(owner) ?? [],
  }));
}
