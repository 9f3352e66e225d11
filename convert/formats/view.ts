import type { ByteSource } from './stored.ts';

/** A tensor as PyTorch sees it in a storage: all numbers count elements. */
export interface View {
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
}

/** So many bytes are read at once where a view is scattered. */
const WINDOW_BYTES = 1 << 20;
/** A gap below this is read over rather than skipped: another read costs more. */
const GAP_BYTES = 1 << 13;

/**
 * Bytes of rows [from, to) of a view, row-major. Rows that lie one after the other are one read; a
 * transposed, sliced or expanded view is gathered in the order of the file, so that memory holds
 * the rows and one window only.
 * @param start byte of the file where the storage begins
 * @param width bytes of an element
 */
export async function viewRows(
  source: ByteSource,
  start: number,
  width: number,
  view: View,
  from: number,
  to: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const { shape, strides } = view;
  const inner = shape.slice(1);
  const rowElements = inner.reduce((product, one) => product * one, 1);
  const count = shape.length === 0 ? 1 : (to - from) * rowElements;
  const first = view.offset + from * (strides[0] ?? 0);
  if (count === 0) return new Uint8Array(0);
  if (isContiguous(view, to - from)) return source.read(start + first * width, count * width);
  const sizes = [to - from, ...inner];
  const offsets = offsetsOf(sizes, strides, first, count);
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  order.sort((a, b) => (offsets[a] ?? 0) - (offsets[b] ?? 0));
  const bytes = new Uint8Array(count * width);
  const at = (place: number) => (offsets[order[place] ?? 0] ?? 0) * width;
  for (let begin = 0; begin < count;) {
    const low = at(begin);
    let end = begin + 1;
    while (end < count && at(end) - at(end - 1) < GAP_BYTES && at(end) - low < WINDOW_BYTES) end++;
    const window = await source.read(start + low, at(end - 1) + width - low);
    for (let place = begin; place < end; place++) {
      const skip = at(place) - low;
      bytes.set(window.subarray(skip, skip + width), (order[place] ?? 0) * width);
    }
    begin = end;
  }
  return bytes;
}

/** Whether so many rows are one run of elements. The stride of an axis of one does not matter. */
function isContiguous({ shape, strides }: View, rows: number): boolean {
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const size = axis === 0 ? rows : (shape[axis] ?? 1);
    if (size !== 1 && strides[axis] !== expected) return false;
    expected *= size;
  }
  return true;
}

/** Where every element lies in its storage, in row-major order. */
function offsetsOf(
  sizes: readonly number[],
  strides: readonly number[],
  first: number,
  count: number,
): Float64Array {
  const offsets = new Float64Array(count);
  const index = sizes.map(() => 0);
  let offset = first;
  for (let i = 0; i < count; i++) {
    offsets[i] = offset;
    for (let axis = sizes.length - 1; axis >= 0; axis--) {
      const next = (index[axis] ?? 0) + 1;
      const [size, stride] = [sizes[axis] ?? 1, strides[axis] ?? 0];
      if (next < size) {
        index[axis] = next;
        offset += stride;
        break;
      }
      index[axis] = 0;
      offset -= stride * (size - 1);
    }
  }
  return offsets;
}
