import { ggmlName, ggmlTypes, type GgmlType } from './ggml.ts';
import { quote } from './pickle.ts';
import { bad, uint64, type ByteSource } from './stored.ts';

/**
 * The container of llama.cpp, versions 2 and 3, little-endian: metadata, then a table of tensors,
 * then their numbers (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
 */

export type GgufValue = number | boolean | string | readonly (number | boolean | string)[];

export interface GgufTensor {
  /** Rows first: the file has its sizes the other way round. */
  readonly shape: readonly number[];
  /** The file's own name of the type, as Q4_0. */
  readonly typeName: string;
  /** Values of rows [from, to) of the first axis. */
  readonly rows: (from: number, to: number) => Promise<Float32Array<ArrayBuffer>>;
}

export interface Gguf {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

const MAGIC = 0x46554747; // 'GGUF'
const FIRST_READ = 1 << 20;
/** A vocabulary of 250,000 pieces with its merges has 12 MB. */
const MAX_HEADER_BYTES = 128 << 20;
const MAX_ENTRIES = 1 << 16;
const MAX_AXES = 4;
const DEFAULT_ALIGNMENT = 32;
const STRING = 8;
const ARRAY = 9;
/** Bytes of a value of each type; a string has at least its length. */
const WIDTHS = [1, 1, 2, 2, 4, 4, 4, 1, 8, 8, 8, 8, 8];

/** @throws Failure BadCheckpoint: another file or version, sizes that disagree, unread types */
export async function openGguf(source: ByteSource): Promise<Gguf> {
  for (let length = FIRST_READ; ; length *= 4) {
    const bytes = await source.read(0, Math.min(length, source.size));
    try {
      return new Header(bytes, source).read();
    } catch (error) {
      if (!(error instanceof TooShort)) throw error;
      if (bytes.length === source.size) throw bad('GGUF: the file ends inside its header');
      if (length >= MAX_HEADER_BYTES) throw bad('GGUF: a header that does not end');
    }
  }
}

/** More of the header has to be read. */
class TooShort extends Error {}

class Header {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #source: ByteSource;
  #at = 0;

  constructor(bytes: Uint8Array, source: ByteSource) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#source = source;
  }

  read(): Gguf {
    if (this.#source.size < 4 || this.#view.getUint32(this.#take(4), true) !== MAGIC) {
      throw bad('GGUF: the file does not begin with GGUF');
    }
    const version = this.#view.getUint32(this.#take(4), true);
    if (version !== 2 && version !== 3) {
      throw bad(`GGUF: version ${version}; versions 2 and 3, little-endian, are read`);
    }
    const [tensorCount, entryCount] = [this.#count('tensors'), this.#count('metadata')];
    const metadata = new Map<string, GgufValue>();
    for (let i = 0; i < entryCount; i++) {
      const key = this.#text();
      if (metadata.has(key)) throw bad(`GGUF: ${quote(key)} stands twice`);
      metadata.set(key, this.#value(key, this.#view.getUint32(this.#take(4), true)));
    }
    const infos = new Map<string, Info>();
    for (let i = 0; i < tensorCount; i++) {
      const name = this.#text();
      if (infos.has(name)) throw bad(`GGUF: tensor ${quote(name)} stands twice`);
      infos.set(name, this.#info(name));
    }
    const alignment = metadata.get('general.alignment') ?? DEFAULT_ALIGNMENT;
    if (typeof alignment !== 'number' || !(alignment >= 1 && alignment <= 1 << 20)) {
      throw bad(`GGUF: general.alignment is ${quote(String(alignment))}`);
    }
    const start = Math.ceil(this.#at / alignment) * alignment;
    const tensors = [...infos].map(([name, info]): [string, GgufTensor] => {
      const end = start + info.offset + info.rows * info.rowBytes;
      if (end <= this.#source.size) return [name, stored(this.#source, start, info)];
      throw bad(`GGUF: tensor ${quote(name)} ends at ${end}, the file at ${this.#source.size}`);
    });
    return { metadata, tensors: new Map(tensors) };
  }

  #info(name: string): Info {
    const axes = this.#view.getUint32(this.#take(4), true);
    if (axes < 1 || axes > MAX_AXES) throw bad(`GGUF: tensor ${quote(name)} has ${axes} axes`);
    const sizes = Array.from({ length: axes }, () => uint64(this.#view, this.#take(8)));
    const number = this.#view.getUint32(this.#take(4), true);
    const offset = uint64(this.#view, this.#take(8));
    const type = ggmlTypes[number];
    if (type === undefined) {
      const read = Object.keys(ggmlTypes).map((one) => ggmlName(Number(one)));
      const how = `${read.join(', ')} are read; quantize the model to one of these`;
      throw bad(`GGUF: tensor ${quote(name)} is ${ggmlName(number)}; ${how}`);
    }
    const shape = sizes.reverse();
    const [rows = 0] = shape;
    const columns = shape.slice(1).reduce((product, one) => product * one, 1);
    const values = rows * columns;
    // Rows are whole blocks. Vectors are never quantized.
    if (values < 1 || !Number.isSafeInteger(values) || columns % type.values !== 0) {
      throw bad(`GGUF: tensor ${quote(name)}: ${ggmlName(number)} [${shape.join(', ')}]`);
    }
    const rowBytes = (columns / type.values) * type.bytes;
    return { shape, type, typeName: ggmlName(number), offset, rows, columns, rowBytes };
  }

  #value(key: string, type: number): GgufValue {
    if (type !== ARRAY) return this.#scalar(key, type);
    const item = this.#view.getUint32(this.#take(4), true);
    if (item === ARRAY) throw bad(`GGUF: ${quote(key)} is a list of lists`);
    const length = uint64(this.#view, this.#take(8));
    const width = WIDTHS[item] ?? 1;
    if (length * width > this.#source.size) throw bad(`GGUF: ${quote(key)} has ${length} entries`);
    // Nothing is made for entries that are not there.
    if (this.#at + length * width > this.#bytes.length) throw new TooShort();
    return Array.from({ length }, () => this.#scalar(key, item));
  }

  #scalar(key: string, type: number): number | boolean | string {
    if (type === STRING) return this.#text();
    const at = this.#take(WIDTHS[type] ?? 0);
    switch (type) {
      case 0:
        return this.#view.getUint8(at);
      case 1:
        return this.#view.getInt8(at);
      case 2:
        return this.#view.getUint16(at, true);
      case 3:
        return this.#view.getInt16(at, true);
      case 4:
        return this.#view.getUint32(at, true);
      case 5:
        return this.#view.getInt32(at, true);
      case 6:
        return shortest(this.#view.getFloat32(at, true));
      case 7:
        return this.#view.getUint8(at) !== 0;
      case 10:
        return Number(this.#view.getBigUint64(at, true));
      case 11:
        return Number(this.#view.getBigInt64(at, true));
      case 12:
        return this.#view.getFloat64(at, true);
      default:
        throw bad(`GGUF: ${quote(key)} has a value of the unknown type ${type}`);
    }
  }

  #count(what: string): number {
    const count = uint64(this.#view, this.#take(8));
    if (count <= MAX_ENTRIES) return count;
    throw bad(`GGUF: ${count} entries of ${what}, more than ${MAX_ENTRIES}`);
  }

  #text(): string {
    const length = uint64(this.#view, this.#take(8));
    if (length > this.#source.size) throw bad(`GGUF: a text of ${length} bytes`);
    const from = this.#take(length);
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(
      this.#bytes.subarray(from, from + length),
    );
  }

  #take(length: number): number {
    const from = this.#at;
    if (from + length > this.#bytes.length) throw new TooShort();
    this.#at += length;
    return from;
  }
}

interface Info {
  readonly shape: readonly number[];
  readonly type: GgmlType;
  readonly typeName: string;
  readonly offset: number;
  readonly rows: number;
  readonly columns: number;
  readonly rowBytes: number;
}

function stored(source: ByteSource, start: number, info: Info): GgufTensor {
  const { shape, type, typeName, offset, columns, rowBytes } = info;
  const rows = async (from: number, to: number): Promise<Float32Array<ArrayBuffer>> => {
    const bytes = await source.read(start + offset + from * rowBytes, (to - from) * rowBytes);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const values = new Float32Array((to - from) * columns);
    for (let at = 0, first = 0; first < values.length; at += type.bytes, first += type.values) {
      type.decode(view, at, values, first);
    }
    return values;
  };
  return { shape, typeName, rows };
}

/** The number that somebody wrote, where an f32 of it was stored: 1e-6 and not 9.9999999e-7. */
function shortest(value: number): number {
  const short = Number(value.toPrecision(7));
  return Math.fround(short) === value ? short : value;
}
