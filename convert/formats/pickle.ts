import { bad } from './stored.ts';

/**
 * Python's pickle, read as data: a stack machine of the opcodes that a table of tensors needs
 * (Lib/pickletools.py lists all of them). Nothing is imported, called or built: what a name and a
 * call stand for is decided by the reader's own table, and anything else is refused by name.
 */

export class PyGlobal {
  readonly name: string; // 'torch._utils._rebuild_tensor_v2'
  constructor(name: string) {
    this.name = name;
  }
}

export class PyTuple {
  readonly items: readonly PyValue[];
  constructor(items: readonly PyValue[]) {
    this.items = items;
  }
}

export class PyList {
  readonly items: PyValue[] = [];
}

/** A dict or an OrderedDict. */
export class PyDict {
  readonly items = new Map<string | number, PyValue>();
}

/** What a table makes of a call or a persistent id. */
export interface PyOpaque {
  readonly kind: string;
}

export type PyValue =
  null | boolean | number | string | PyGlobal | PyTuple | PyList | PyDict | PyOpaque;

export interface PickleTable {
  /** Names that may stand in the file; they are never looked up anywhere. */
  readonly globals: ReadonlySet<string>;
  /** The value of `callee(*args)`. @throws Failure BadCheckpoint where it has none */
  call(callee: string, args: readonly PyValue[]): PyValue;
  /** The value that a persistent id stands for. @throws Failure BadCheckpoint */
  persistent(id: PyValue): PyValue;
}

const MARK = Symbol('mark');
/** Numbers of more bytes than this are no sizes. */
const MAX_LONG_BYTES = 8;
const ORDERED_DICT = 'collections.OrderedDict';

/** The value that a pickle holds. @throws Failure BadCheckpoint for everything unexpected */
export function readPickle(bytes: Uint8Array, table: PickleTable): PyValue {
  return new Machine(bytes, table).run();
}

class Machine {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #table: PickleTable;
  readonly #stack: (PyValue | typeof MARK)[] = [];
  readonly #memo = new Map<number, PyValue>();
  #at = 0;

  constructor(bytes: Uint8Array, table: PickleTable) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#table = table;
  }

  run(): PyValue {
    for (;;) {
      const at = this.#at;
      const opcode = this.#byte();
      if (opcode === 0x2e) return this.#pop(); // STOP
      if (!this.#step(opcode)) {
        const name = `0x${opcode.toString(16).padStart(2, '0')}`;
        throw bad(`pickle: opcode ${name} at byte ${at} is not one of a table of tensors`);
      }
    }
  }

  /** Runs one opcode. @returns false for one that is not allowed */
  #step(opcode: number): boolean {
    switch (opcode) {
      case 0x80: // PROTO
        return this.#protocol(this.#byte());
      case 0x95: // FRAME: how many bytes follow, which nothing here needs
        this.#take(8);
        return true;
      case 0x28: // MARK
        this.#stack.push(MARK);
        return true;
      case 0x4e: // NONE
        return this.#push(null);
      case 0x88: // NEWTRUE
        return this.#push(true);
      case 0x89: // NEWFALSE
        return this.#push(false);
      case 0x4b: // BININT1
        return this.#push(this.#byte());
      case 0x4d: // BININT2
        return this.#push(this.#view.getUint16(this.#take(2), true));
      case 0x4a: // BININT
        return this.#push(this.#view.getInt32(this.#take(4), true));
      case 0x8a: // LONG1
        return this.#push(this.#long(this.#byte()));
      case 0x47: // BINFLOAT
        return this.#push(this.#view.getFloat64(this.#take(8), false));
      case 0x58: // BINUNICODE
        return this.#push(this.#text(this.#view.getUint32(this.#take(4), true)));
      case 0x8c: // SHORT_BINUNICODE
        return this.#push(this.#text(this.#byte()));
      case 0x7d: // EMPTY_DICT
        return this.#push(new PyDict());
      case 0x5d: // EMPTY_LIST
        return this.#push(new PyList());
      case 0x29: // EMPTY_TUPLE
        return this.#push(new PyTuple([]));
      case 0x85: // TUPLE1
        return this.#tuple(1);
      case 0x86: // TUPLE2
        return this.#tuple(2);
      case 0x87: // TUPLE3
        return this.#tuple(3);
      case 0x74: // TUPLE
        return this.#push(new PyTuple(this.#popMark()));
      case 0x71: // BINPUT
        return this.#remember(this.#byte());
      case 0x72: // LONG_BINPUT
        return this.#remember(this.#view.getUint32(this.#take(4), true));
      case 0x94: // MEMOIZE
        return this.#remember(this.#memo.size);
      case 0x68: // BINGET
        return this.#recall(this.#byte());
      case 0x6a: // LONG_BINGET
        return this.#recall(this.#view.getUint32(this.#take(4), true));
      case 0x61: // APPEND
        return this.#append([this.#pop()]);
      case 0x65: // APPENDS
        return this.#append(this.#popMark());
      case 0x73: {
        // SETITEM
        const value = this.#pop();
        return this.#set([this.#pop(), value]);
      }
      case 0x75: // SETITEMS
        return this.#set(this.#popMark());
      case 0x63: // GLOBAL
        return this.#global(this.#line(), this.#line());
      case 0x93: {
        // STACK_GLOBAL
        const name = this.#pop();
        return this.#global(this.#pop(), name);
      }
      case 0x51: // BINPERSID
        return this.#push(this.#table.persistent(this.#pop()));
      case 0x52: // REDUCE
        return this.#reduce();
      case 0x62: // BUILD
        return this.#build();
      default:
        return false;
    }
  }

  #protocol(version: number): boolean {
    if (version < 2 || version > 5) throw bad(`pickle: protocol ${version}`);
    return true;
  }

  #global(module: PyValue, name: PyValue): boolean {
    if (typeof module !== 'string' || typeof name !== 'string') {
      throw bad('pickle: a class whose name is no text');
    }
    const full = `${module}.${name}`;
    if (!this.#table.globals.has(full)) {
      const what = 'no class or function of a table of tensors; nothing of this file was run';
      throw bad(`pickle: ${quote(full)} is ${what}`);
    }
    return this.#push(new PyGlobal(full));
  }

  #reduce(): boolean {
    const args = this.#pop();
    const callee = this.#pop();
    if (!(args instanceof PyTuple) || !(callee instanceof PyGlobal)) {
      throw bad('pickle: a call of something that is no function');
    }
    if (callee.name === ORDERED_DICT && args.items.length === 0) return this.#push(new PyDict());
    return this.#push(this.#table.call(callee.name, args.items));
  }

  /** Attributes of a dict (`_metadata` of a state_dict): they say nothing about numbers. */
  #build(): boolean {
    this.#pop();
    if (this.#stack.at(-1) instanceof PyDict) return true;
    throw bad('pickle: attributes are set on something that is no dict');
  }

  #append(values: readonly PyValue[]): boolean {
    const list = this.#stack.at(-1);
    if (!(list instanceof PyList)) throw bad('pickle: no list to append to');
    for (const value of values) list.items.push(value);
    return true;
  }

  #set(pairs: readonly PyValue[]): boolean {
    const dict = this.#stack.at(-1);
    if (!(dict instanceof PyDict)) throw bad('pickle: no dict to put things into');
    if (pairs.length % 2 !== 0) throw bad('pickle: a key without a value');
    for (let i = 0; i < pairs.length; i += 2) {
      const key = pairs[i];
      if (typeof key !== 'string' && typeof key !== 'number') {
        throw bad('pickle: a key that is neither text nor number');
      }
      if (dict.items.has(key)) throw bad(`pickle: ${quote(String(key))} stands twice`);
      dict.items.set(key, pairs[i + 1] ?? null);
    }
    return true;
  }

  #tuple(length: number): boolean {
    const items: PyValue[] = [];
    for (let i = 0; i < length; i++) items.unshift(this.#pop());
    return this.#push(new PyTuple(items));
  }

  #remember(key: number): boolean {
    const value = this.#stack.at(-1);
    if (value === undefined || value === MARK) throw bad('pickle: nothing to remember');
    this.#memo.set(key, value);
    return true;
  }

  #recall(key: number): boolean {
    const value = this.#memo.get(key);
    if (value === undefined) throw bad(`pickle: value ${key} is used before it is there`);
    return this.#push(value);
  }

  #push(value: PyValue): boolean {
    this.#stack.push(value);
    return true;
  }

  #pop(): PyValue {
    const value = this.#stack.pop();
    if (value === undefined || value === MARK) throw bad('pickle: a value is missing');
    return value;
  }

  #popMark(): PyValue[] {
    const at = this.#stack.lastIndexOf(MARK);
    if (at === -1) throw bad('pickle: a mark is missing');
    const values = this.#stack.splice(at).slice(1);
    return values.filter((value): value is PyValue => value !== MARK);
  }

  #byte(): number {
    return this.#bytes[this.#take(1)] ?? 0;
  }

  /** Where the next `length` bytes begin, after which it goes on. */
  #take(length: number): number {
    const from = this.#at;
    if (from + length > this.#bytes.length) throw bad('pickle: the data ends too early');
    this.#at += length;
    return from;
  }

  #text(length: number): string {
    const from = this.#take(length);
    return new TextDecoder().decode(this.#bytes.subarray(from, from + length));
  }

  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end === -1) throw bad('pickle: a line without an end');
    return this.#text(end + 1 - this.#at).slice(0, -1);
  }

  /** A two's complement number of so many bytes. */
  #long(length: number): number {
    if (length > MAX_LONG_BYTES) throw bad(`pickle: a number of ${length} bytes`);
    let value = 0n;
    const from = this.#take(length);
    for (let i = length - 1; i >= 0; i--) value = value * 256n + BigInt(this.#bytes[from + i] ?? 0);
    const signed = Number(BigInt.asIntN(8 * length, value));
    if (!Number.isSafeInteger(signed)) throw bad(`pickle: the number ${signed}`);
    return signed;
  }
}

/** A name in a message, cut short. */
export function quote(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}...` : text;
}
