import type { SafetensorsDtype } from '../../src/format/safetensors.ts';
import { PyDict, PyGlobal, PyTuple, quote, readPickle, type PyValue } from './pickle.ts';
import { bad, type ByteSource, type StoredTensor } from './stored.ts';
import { viewRows, type View } from './view.ts';
import { openZip } from './zip.ts';

/**
 * `pytorch_model.bin` as torch.save writes it since 1.6: a zip archive that stores NAME/data.pkl,
 * a pickled table of tensors, and NAME/data/KEY, the numbers of each storage. A tensor is a view
 * of a storage: where it begins, its sizes, and its strides in elements (torch/_utils.py,
 * torch/serialization.py of PyTorch 2.13).
 */

/** No more is parsed: the table of a model of 100,000 tensors. */
const MAX_PICKLE_BYTES = 64 << 20;
const LARGEST = 2 ** 48;
const REBUILD = 'torch._utils._rebuild_tensor_v2';
const PARAMETER = 'torch._utils._rebuild_parameter';
const DTYPES: Readonly<Record<string, readonly [SafetensorsDtype, number]>> = {
  'torch.FloatStorage': ['F32', 4],
  'torch.HalfStorage': ['F16', 2],
  'torch.BFloat16Storage': ['BF16', 2],
  'torch.DoubleStorage': ['F64', 8],
  'torch.LongStorage': ['I64', 8],
  'torch.IntStorage': ['I32', 4],
  'torch.ShortStorage': ['I16', 2],
  'torch.CharStorage': ['I8', 1],
  'torch.ByteStorage': ['U8', 1],
  'torch.BoolStorage': ['BOOL', 1],
};
const GLOBALS = new Set([REBUILD, PARAMETER, 'collections.OrderedDict', ...Object.keys(DTYPES)]);
/** How a file of torch.save before 1.6 begins: a pickle of torch's magic number. */
const LEGACY = [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46];

class Storage {
  readonly kind = 'storage';
  readonly dtype: SafetensorsDtype;
  readonly width: number; // bytes of an element
  readonly key: string;
  readonly elements: number;
  constructor(dtype: SafetensorsDtype, width: number, key: string, elements: number) {
    this.dtype = dtype;
    this.width = width;
    this.key = key;
    this.elements = elements;
  }
}

class Tensor {
  readonly kind = 'tensor';
  readonly storage: Storage;
  readonly view: View;
  constructor(storage: Storage, view: View) {
    this.storage = storage;
    this.view = view;
  }
}

/**
 * The tensors of a file, none of them read yet; nothing of the file is executed.
 * @throws Failure BadCheckpoint: an older or another file, or one that holds more than tensors
 */
export async function openTorch(source: ByteSource): Promise<ReadonlyMap<string, StoredTensor>> {
  await refuseOthers(source);
  const zip = await openZip(source);
  const main = [...zip.entries.keys()].filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  const [pickle, second] = main;
  if (pickle === undefined || second !== undefined) {
    throw bad(`zip: ${main.length} entries NAME/data.pkl; torch.save writes one`);
  }
  const folder = pickle.slice(0, -'data.pkl'.length);
  const read = async (name: string, limit: number): Promise<Uint8Array | null> => {
    const entry = zip.entries.get(folder + name);
    if (entry === undefined) return null;
    if (entry.bytes > limit) throw bad(`zip: ${entry.name} has ${entry.bytes} bytes, too large`);
    return source.read(await zip.start(entry), entry.bytes);
  };
  const order = new TextDecoder().decode((await read('byteorder', 64)) ?? undefined);
  if (order !== '' && order !== 'little') throw bad(`the numbers are ${order}-endian`);
  const bytes = (await read('data.pkl', MAX_PICKLE_BYTES)) ?? new Uint8Array();
  const tensors = tableOf(readPickle(bytes, { globals: GLOBALS, call, persistent }));
  const starts = new Map<string, number>();
  const stored = new Map<string, StoredTensor>();
  for (const [name, { storage, view }] of tensors) {
    const entry = zip.entries.get(`${folder}data/${storage.key}`);
    if (entry === undefined) throw bad(`tensor ${name}: storage ${storage.key} is not in the file`);
    if (entry.bytes !== storage.elements * storage.width) {
      const what = `${entry.bytes} bytes for ${storage.elements} elements of ${storage.dtype}`;
      throw bad(`tensor ${name}: storage ${storage.key} has ${what}`);
    }
    const start = starts.get(storage.key) ?? (await zip.start(entry));
    starts.set(storage.key, start);
    stored.set(name, {
      dtype: storage.dtype,
      shape: view.shape,
      rowBytes: (from, to) => viewRows(source, start, storage.width, view, from, to),
    });
  }
  return stored;
}

async function refuseOthers(source: ByteSource): Promise<void> {
  const first = await source.read(0, Math.min(source.size, LEGACY.length));
  if (LEGACY.every((byte, i) => first[i] === byte)) {
    const how = 'torch.save(torch.load(FILE, weights_only=True), FILE)';
    throw bad(`a file of PyTorch before 1.6; write it anew with a later one: ${how}`);
  }
  if (first[0] === 0x50 && first[1] === 0x4b) return; // 'PK'
  throw bad('no zip archive, so not a file of torch.save');
}

/** The table of a state_dict: names to tensors, and nothing else. */
function tableOf(value: PyValue): ReadonlyMap<string, Tensor> {
  if (!(value instanceof PyDict)) throw bad('pickle: the file is no table of tensors');
  const tensors = new Map<string, Tensor>();
  for (const [name, tensor] of value.items) {
    if (typeof name !== 'string' || !(tensor instanceof Tensor)) {
      const how = 'save model.state_dict() alone';
      throw bad(`pickle: entry ${quote(String(name))} is no tensor; ${how}`);
    }
    tensors.set(name, tensor);
  }
  return tensors;
}

/** ('storage', class, key, where it lived, elements) */
function persistent(id: PyValue): Storage {
  const [tag, type, key, , elements] = id instanceof PyTuple ? id.items : [];
  const [dtype, width] = (type instanceof PyGlobal && DTYPES[type.name]) || [];
  const sound = tag === 'storage' && typeof key === 'string' && isSize(elements);
  if (!sound || dtype === undefined || width === undefined) throw bad('pickle: a broken storage');
  return new Storage(dtype, width, key, elements);
}

function call(callee: string, args: readonly PyValue[]): Tensor {
  const [first, offset, size, stride] = args;
  if (callee === PARAMETER && first instanceof Tensor) return first;
  const shape = sizesOf(size);
  const strides = sizesOf(stride);
  const sound = callee === REBUILD && first instanceof Storage && isSize(offset);
  if (!sound || shape === null || strides?.length !== shape.length) {
    throw bad(`pickle: a call of ${callee} that makes no tensor`);
  }
  const count = shape.reduce((product, one) => product * one, 1);
  const last = shape.reduce((sum, one, axis) => sum + (one - 1) * (strides[axis] ?? 0), offset);
  if (count > LARGEST || (count > 0 && last >= first.elements)) {
    const what = `[${shape.join(', ')}] from ${offset} by [${strides.join(', ')}]`;
    throw bad(`pickle: a tensor ${what} lies outside its storage of ${first.elements}`);
  }
  if (count > first.elements) {
    throw bad(`pickle: a tensor [${shape.join(', ')}] is larger than its storage; clone it`);
  }
  return new Tensor(first, { offset, shape, strides });
}

function sizesOf(value: PyValue | undefined): number[] | null {
  if (!(value instanceof PyTuple) || !value.items.every(isSize)) return null;
  return value.items.filter(isSize);
}

function isSize(value: PyValue | undefined): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= LARGEST;
}
