import { Failure } from '../failure.ts';
import { recall, remember } from './memory.ts';

const KEPT = 'model';

/**
 * The address of the model that the page uses: the folder `models/NAME/` below the page that its
 * address names with `?model=NAME`, else what was chosen here before, else `models/nano/`.
 * @throws Failure NotFound where the name cannot be a folder's
 */
export function modelFolder(page: string): string {
  const name = new URL(page).searchParams.get('model');
  return name === null ? (chosenModel() ?? bundledFolder(page)) : folderOf(name, page);
}

/** The package that this site brings along. */
export function bundledFolder(page: string): string {
  return folderOf('nano', page);
}

/** The address of the model that was chosen on this device; null where none was. */
export function chosenModel(): string | null {
  return recall(KEPT);
}

/** Remembers which model to use from now on; null: the one that the site brings along. */
export function chooseModel(address: string | null): void {
  remember(KEPT, address);
}

function folderOf(name: string, page: string): string {
  if (!/^[a-z0-9-]+$/.test(name)) throw new Failure('NotFound', `no model can be called ${name}`);
  return new URL(`models/${name}/`, new URL('.', page)).href;
}
