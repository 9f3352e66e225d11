import { expect, test } from 'vitest';
import { folderOfFiles, folderOfHandle } from './folder.ts';

const CONFIG = 'mlc-chat-config.json';

/** A file as a picker of folders gives it. */
function picked(path: string): File {
  const file = new File(['x'], path.split('/').at(-1) ?? '');
  Object.defineProperty(file, 'webkitRelativePath', { value: path.includes('/') ? path : '' });
  return file;
}

/** A folder of the file system, with folders inside. */
function handle(name: string, children: Record<string, string | Record<string, string>>) {
  return {
    name,
    kind: 'directory',
    // eslint-disable-next-line @typescript-eslint/require-await -- an iterator of this kind
    async *entries(): AsyncGenerator<[string, unknown]> {
      for (const [child, content] of Object.entries(children)) {
        const isFile = typeof content === 'string';
        yield [
          child,
          isFile
            ? { kind: 'file', getFile: () => Promise.resolve(new File([content], child)) }
            : handle(child, content),
        ];
      }
    },
  } as unknown as FileSystemDirectoryHandle;
}

test('files one by one are a folder, and of a tree the one folder that is a model', () => {
  const flat = folderOfFiles([picked(CONFIG), picked('a.bin')]);
  expect(flat.folder?.files.map(({ name }) => name)).toEqual([CONFIG, 'a.bin']);
  const tree = folderOfFiles([picked('all/x.txt'), picked(`all/m/${CONFIG}`), picked('all/m/a')]);
  expect(tree.folder?.name).toBe('m');
  expect(tree.folder?.files).toHaveLength(2);
});

test('no model, several models, one name twice', () => {
  expect(folderOfFiles([picked('all/x.txt')]).problem).toMatchObject({ kind: 'no-config' });
  expect(
    folderOfFiles([picked(`all/a/${CONFIG}`), picked(`all/b/${CONFIG}`)]).problem,
  ).toMatchObject({ kind: 'several-models', detail: 'a, b' });
  expect(folderOfFiles([picked(CONFIG), picked(CONFIG)]).problem).toMatchObject({
    kind: 'twice',
    file: CONFIG,
  });
});

test('a folder that was picked, or the one in it', async () => {
  const here = await folderOfHandle(handle('m', { [CONFIG]: '{}', 'a.bin': 'x' }));
  expect(here.folder).toMatchObject({ name: 'm' });
  expect(here.folder?.files).toHaveLength(2);
  const above = await folderOfHandle(handle('all', { m: { [CONFIG]: '{}' }, n: { b: 'x' } }));
  expect(above.folder?.name).toBe('m');
  const none = await folderOfHandle(handle('all', { 'a.bin': 'x' }));
  expect(none.problem).toMatchObject({ kind: 'no-config' });
});

test('a folder that may no longer be read', async () => {
  const gone = {
    name: 'stick',
    entries: () => {
      throw new DOMException('gone', 'NotFoundError');
    },
  } as unknown as FileSystemDirectoryHandle;
  expect((await folderOfHandle(gone)).problem).toEqual({
    kind: 'unreadable',
    file: 'stick',
    detail: 'NotFoundError',
  });
});
