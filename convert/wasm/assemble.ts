/**
 * A small assembler for WebAssembly: the folded instructions of its text format, as far as the
 * kernels beside it need them (https://webassembly.github.io/spec/core/text/instructions.html).
 * A module has one memory, exported, and functions of i32 parameters without results.
 */

type Node = string | Node[];

/** Opcodes; those from 0xfd00 on are the SIMD instructions. */
const OPCODES: Readonly<Record<string, number>> = {
  ...{ select: 0x1b, 'f64.load': 0x2b, 'i32.store': 0x36, 'f64.store': 0x39 },
  ...{ 'i32.store8': 0x3a, 'i32.store16': 0x3b },
  ...{ 'i32.eqz': 0x45, 'i32.lt_u': 0x49, 'f64.eq': 0x61, 'f64.lt': 0x63, 'f64.gt': 0x64 },
  ...{ 'i32.add': 0x6a, 'i32.sub': 0x6b, 'i32.and': 0x71, 'i32.or': 0x72, 'i32.shl': 0x74 },
  ...{ 'i32.shr_u': 0x76, 'i32.trunc_f64_u': 0xab, 'i32.reinterpret_f32': 0xbc },
  ...{ 'f64.abs': 0x99, 'f64.add': 0xa0, 'f64.mul': 0xa2, 'f64.div': 0xa3 },
  ...{ 'f32.demote_f64': 0xb6, 'i32x4.splat': 0xfd11, 'v128.load32_zero': 0xfd5c },
  ...{ 'i32x4.extend_low_i16x8_u': 0xfda9, 'i32x4.shl': 0xfdab, 'i32x4.max_u': 0xfdb9 },
  ...{ 'v128.load': 0xfd00, 'v128.load64_splat': 0xfd0a, 'v128.store': 0xfd0b },
  ...{ 'i64x2.splat': 0xfd12, 'f64x2.splat': 0xfd14, 'i32x4.extract_lane': 0xfd1b },
  ...{ 'f64x2.extract_lane': 0xfd21, 'f64x2.replace_lane': 0xfd22, 'f64x2.ne': 0xfd48 },
  ...{ 'f64x2.lt': 0xfd49, 'v128.and': 0xfd4e, 'v128.bitselect': 0xfd52 },
  ...{ 'v128.load64_zero': 0xfd5d, 'f64x2.promote_low_f32x4': 0xfd5f },
  ...{ 'i64x2.shr_u': 0xfdcd, 'i64x2.add': 0xfdce, 'f64x2.abs': 0xfdec },
  ...{ 'f64x2.add': 0xfdf0, 'f64x2.sub': 0xfdf1, 'f64x2.mul': 0xfdf2, 'f64x2.div': 0xfdf3 },
  ...{ 'f64x2.pmin': 0xfdf6, 'f64x2.pmax': 0xfdf7, 'i32x4.trunc_sat_f64x2_u_zero': 0xfdfd },
};
/** Bytes of an access, as a power of two, to tell its natural alignment. */
const ALIGNMENT: Readonly<Record<string, number>> = {
  ...{ 'f64.load': 3, 'f64.store': 3, 'i32.store': 2, 'i32.store8': 0, 'i32.store16': 1 },
  ...{ 'v128.load': 4, 'v128.store': 4 },
  ...{ 'v128.load64_splat': 3, 'v128.load64_zero': 3, 'v128.load32_zero': 2 },
};
const TYPES: Readonly<Record<string, number>> = { i32: 0x7f, f64: 0x7c, v128: 0x7b };
const VOID = 0x40;
const END = 0x0b;

/**
 * @param source `(func $name (param $a) … (local $b f64) … instructions)`, several
 * @returns the bytes of a module that exports `memory` and the functions
 * @throws Error for anything that it does not know
 */
export function assemble(source: string, pages: number): Uint8Array<ArrayBuffer> {
  const functions = parse(source).map(compile);
  const signatures = functions.map(({ params }) => [0x60, ...list(params.map(() => [0x7f])), 0]);
  const exported = functions.map(({ name }, i) => [...text(name), 0, ...unsigned(i)]);
  const sections: [number, number[]][] = [
    [1, list(signatures)],
    [3, list(functions.map((_, i) => unsigned(i)))],
    [5, [1, 0, ...unsigned(pages)]],
    [7, list([...exported, [...text('memory'), 2, 0]])],
    [10, list(functions.map(({ code }) => [...unsigned(code.length), ...code]))],
  ];
  return Uint8Array.of(
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...sections.flatMap(([id, bytes]) => [id, ...unsigned(bytes.length), ...bytes]),
  );
}

interface Compiled {
  readonly name: string;
  readonly params: readonly string[];
  readonly code: readonly number[];
}

function compile(node: Node): Compiled {
  if (typeof node === 'string' || node[0] !== 'func') throw new Error('only functions are known');
  const [, name, ...rest] = node;
  const params: string[] = [];
  const locals: [name: string, type: number][] = [];
  const body: Node[] = [];
  for (const one of rest) {
    if (typeof one === 'string') throw new Error(`${one} stands alone`);
    if (one[0] === 'param') params.push(...one.slice(1).map(String));
    else if (one[0] === 'local') {
      const [type, ...names] = [...one.slice(1)].reverse();
      for (const local of names.reverse()) locals.push([String(local), typeOf(String(type))]);
    } else body.push(one);
  }
  const scope = new Map([...params, ...locals.map(([local]) => local)].map((one, i) => [one, i]));
  const code = [
    ...list(locals.map(([, type]) => [1, type])),
    ...body.flatMap((one) => emit(one, scope, [])),
    END,
  ];
  return { name: String(name).slice(1), params, code };
}

/** @param labels of the blocks around, innermost first */
function emit(node: Node, scope: ReadonlyMap<string, number>, labels: readonly string[]): number[] {
  if (typeof node === 'string') throw new Error(`${node} stands alone`);
  const op = String(node[0]);
  const inner = (nodes: readonly Node[], own = labels) =>
    nodes.flatMap((one) => emit(one, scope, own));
  const first = String(node[1]);
  switch (op) {
    case 'local.get':
      return [0x20, ...unsigned(indexOf(scope, first))];
    case 'local.set':
      return [...inner(node.slice(2)), 0x21, ...unsigned(indexOf(scope, first))];
    case 'i32.const':
      return [0x41, ...signed(BigInt(first))];
    case 'i64.const':
      return [0x42, ...signed(BigInt.asIntN(64, BigInt(first)))];
    case 'f64.const':
      return [0x44, ...new Uint8Array(Float64Array.of(Number(first)).buffer)];
    case 'loop':
      return [0x03, VOID, ...inner(node.slice(2), [first, ...labels]), END];
    case 'br_if': {
      const depth = labels.indexOf(first);
      if (depth < 0) throw new Error(`no label ${first}`);
      return [...inner(node.slice(2)), 0x0d, ...unsigned(depth)];
    }
    case 'if':
      return [...inner(node.slice(1, 2)), 0x04, VOID, ...inner(node.slice(2)), END];
    default:
      return emitPlain(op, node, inner);
  }
}

/** An instruction of the table: its operands, itself, then a place in memory or a lane. */
function emitPlain(op: string, node: Node, inner: (nodes: readonly Node[]) => number[]): number[] {
  const opcode = OPCODES[op];
  if (opcode === undefined) throw new Error(`no instruction ${op}`);
  const immediates = [...node].filter((one): one is string => typeof one === 'string').slice(1);
  const code = opcode < 0xfd00 ? [opcode] : [0xfd, ...unsigned(opcode - 0xfd00)];
  const alignment = ALIGNMENT[op];
  const offset = Number(immediates[0]?.replace('offset=', '') ?? 0);
  const tail = alignment === undefined ? immediates.map(Number) : [alignment, ...unsigned(offset)];
  return [...inner([...node].filter((one) => typeof one !== 'string')), ...code, ...tail];
}

function indexOf(scope: ReadonlyMap<string, number>, name: string): number {
  const index = scope.get(name);
  if (index === undefined) throw new Error(`no local ${name}`);
  return index;
}

function typeOf(name: string): number {
  const type = TYPES[name];
  if (type === undefined) throw new Error(`no type ${name}`);
  return type;
}

function parse(source: string): Node[] {
  const tokens = source.replace(/;;.*$/gm, '').match(/[()]|[^\s()]+/g) ?? [];
  const stack: Node[][] = [[]];
  for (const token of tokens) {
    if (token === '(') stack.push([]);
    else if (token === ')') {
      const done = stack.pop();
      if (done === undefined || stack.length === 0) throw new Error('a bracket too many');
      stack.at(-1)?.push(done);
    } else stack.at(-1)?.push(token);
  }
  const [nodes] = stack;
  if (nodes === undefined || stack.length > 1) throw new Error('a bracket too few');
  return nodes;
}

function list(items: readonly (readonly number[])[]): number[] {
  return [...unsigned(items.length), ...items.flat()];
}

function text(content: string): number[] {
  const bytes = [...new TextEncoder().encode(content)];
  return [...unsigned(bytes.length), ...bytes];
}

/** LEB128. */
function unsigned(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(Math.floor(value / 0x80))];
}

function signed(value: bigint): number[] {
  const low = Number(value & 0x7fn);
  const rest = value >> 7n;
  const done = (rest === 0n && low < 0x40) || (rest === -1n && low >= 0x40);
  return done ? [low] : [low | 0x80, ...signed(rest)];
}
