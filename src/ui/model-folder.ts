import { Failure } from '../failure.ts';

/**
 * The folder of the model package, below the page: `models/nano/`, or another that the address
 * names with `?model=NAME`.
 * @throws Failure NotFound where the name cannot be a folder's
 */
export function modelFolder(page: string): string {
  const name = new URL(page).searchParams.get('model') ?? 'nano';
  if (!/^[a-z0-9-]+$/.test(name)) throw new Failure('NotFound', `no model can be called ${name}`);
  return new URL(`models/${name}/`, new URL('.', page)).href;
}
