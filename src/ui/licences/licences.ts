import { array, nullable, object, optional, parse, string } from 'valibot';

/** The list of bundled packages that the build writes. */
const list = array(
  object({
    name: string(),
    version: string(),
    identifier: optional(nullable(string())),
    text: optional(nullable(string())),
  }),
);

export interface PackageLicence {
  readonly name: string;
  readonly version: string;
  readonly licence: string;
  /** The whole text; empty where the package has none. */
  readonly text: string;
}

/**
 * Reads the list of licences.
 * @throws Error where it does not come, or is no such list
 */
export async function readLicences(
  fetchList: () => Promise<Response>,
): Promise<readonly PackageLicence[]> {
  const response = await fetchList();
  if (!response.ok) throw new Error(`status ${response.status}`);
  return parse(list, await response.json())
    .map(({ name, version, identifier, text }) => ({
      name,
      version,
      licence: identifier ?? '?',
      text: text ?? '',
    }))
    .toSorted((a, b) => a.name.localeCompare(b.name, 'en'));
}
