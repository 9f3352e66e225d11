import protobuf from 'protobufjs/minimal.js';

/**
 * The part of ONNX's file format that a model of ours needs. Field numbers and enum values are
 * those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3.
 */

/** TensorProto.DataType. */
export const dataType = { f32: 1, u8: 2, i32: 6, i64: 7, bool: 9, f16: 10 } as const;
export type DataType = keyof typeof dataType;

/** AttributeProto.AttributeType. */
const attributeType = { float: 1, int: 2, string: 3, ints: 7 } as const;

/** TensorProto.DataLocation. */
const EXTERNAL = 1;

interface StringEntry {
  readonly key: string;
  readonly value: string;
}

interface TensorMessage {
  readonly dims: readonly number[];
  readonly dataType: number;
  readonly name: string;
  readonly rawData?: Uint8Array;
  readonly externalData?: readonly StringEntry[];
  readonly dataLocation?: number;
}

interface AttributeMessage {
  readonly name: string;
  readonly type: number;
  readonly f?: number;
  readonly i?: number;
  readonly s?: Uint8Array;
  readonly ints?: readonly number[];
}

interface NodeMessage {
  readonly input: readonly string[];
  readonly output: readonly string[];
  readonly name: string;
  readonly opType: string;
  readonly domain: string;
  readonly attribute: readonly AttributeMessage[];
}

interface ValueInfoMessage {
  readonly name: string;
  readonly type: {
    readonly tensorType: {
      readonly elemType: number;
      readonly shape: { readonly dim: readonly { dimValue?: number; dimParam?: string }[] };
    };
  };
}

export interface GraphMessage {
  readonly name: string;
  readonly node: readonly NodeMessage[];
  readonly initializer: readonly TensorMessage[];
  readonly input: readonly ValueInfoMessage[];
  readonly output: readonly ValueInfoMessage[];
}

export interface ModelMessage {
  readonly irVersion: number;
  readonly producerName: string;
  readonly producerVersion: string;
  readonly opsetImport: readonly { readonly domain: string; readonly version: number }[];
  readonly graph: GraphMessage;
  readonly metadataProps: readonly StringEntry[];
}

export interface Field {
  readonly type: string;
  readonly id: number;
  readonly rule?: 'repeated';
}

const field = (type: string, id: number): Field => ({ type, id });
const list = (type: string, id: number): Field => ({ type, id, rule: 'repeated' });

/** The fields of every message, in the order of their numbers: a file has them so. */
export const messages = {
  ModelProto: {
    irVersion: field('int64', 1),
    producerName: field('string', 2),
    producerVersion: field('string', 3),
    graph: field('GraphProto', 7),
    opsetImport: list('OperatorSetIdProto', 8),
    metadataProps: list('StringStringEntryProto', 14),
  },
  OperatorSetIdProto: { domain: field('string', 1), version: field('int64', 2) },
  StringStringEntryProto: { key: field('string', 1), value: field('string', 2) },
  GraphProto: {
    node: list('NodeProto', 1),
    name: field('string', 2),
    initializer: list('TensorProto', 5),
    input: list('ValueInfoProto', 11),
    output: list('ValueInfoProto', 12),
  },
  NodeProto: {
    input: list('string', 1),
    output: list('string', 2),
    name: field('string', 3),
    opType: field('string', 4),
    attribute: list('AttributeProto', 5),
    domain: field('string', 7),
  },
  AttributeProto: {
    name: field('string', 1),
    f: field('float', 2),
    i: field('int64', 3),
    s: field('bytes', 4),
    ints: list('int64', 8),
    type: field('int32', 20),
  },
  TensorProto: {
    dims: list('int64', 1),
    dataType: field('int32', 2),
    name: field('string', 8),
    rawData: field('bytes', 9),
    externalData: list('StringStringEntryProto', 13),
    dataLocation: field('int32', 14),
  },
  ValueInfoProto: { name: field('string', 1), type: field('TypeProto', 2) },
  TypeProto: { tensorType: field('TensorTypeProto', 1) },
  TensorTypeProto: { elemType: field('int32', 1), shape: field('TensorShapeProto', 2) },
  TensorShapeProto: { dim: list('DimensionProto', 1) },
  DimensionProto: { dimValue: field('int64', 1), dimParam: field('string', 2) },
} satisfies Readonly<Record<string, Readonly<Record<string, Field>>>>;

const fieldsOf: ReadonlyMap<string, Readonly<Record<string, Field>>> = new Map(
  Object.entries(messages),
);

/** Wire type of what has its length in front; https://protobuf.dev/programming-guides/encoding/ */
const LENGTH = 2;

/** How numbers are written, and their wire type. */
const numbers: ReadonlyMap<
  string,
  { readonly wire: number; readonly write: (to: protobuf.Writer, value: number) => void }
> = new Map([
  ['int64', { wire: 0, write: (to: protobuf.Writer, value: number) => void to.int64(value) }],
  ['int32', { wire: 0, write: (to: protobuf.Writer, value: number) => void to.int32(value) }],
  ['float', { wire: 5, write: (to: protobuf.Writer, value: number) => void to.float(value) }],
]);

/**
 * A model as the bytes of an .onnx file. The same model gives the same bytes. The encoder walks the
 * table instead of using protobufjs's own, which makes code from text and which a content security
 * policy without 'unsafe-eval' forbids.
 */
export function encodeModel(model: ModelMessage): Uint8Array {
  const writer = protobuf.Writer.create();
  writeMessage(writer, 'ModelProto', model);
  return writer.finish();
}

function writeMessage(writer: protobuf.Writer, type: string, message: object): void {
  const values = new Map<string, unknown>(Object.entries(message));
  for (const [name, { type: kind, id, rule }] of Object.entries(fieldsOf.get(type) ?? {})) {
    const value = values.get(name);
    if (value === undefined) continue;
    if (rule === undefined) writeField(writer, kind, id, value);
    else writeList(writer, kind, id, value as readonly unknown[]);
  }
}

/** Numbers of a list are packed: one length for all of them, as proto3 has it. */
function writeList(
  writer: protobuf.Writer,
  kind: string,
  id: number,
  values: readonly unknown[],
): void {
  const number = numbers.get(kind);
  if (number === undefined) {
    for (const value of values) writeField(writer, kind, id, value);
  } else if (values.length > 0) {
    writer.uint32(tag(id, LENGTH)).fork();
    for (const value of values) number.write(writer, Number(value));
    writer.ldelim();
  }
}

function writeField(writer: protobuf.Writer, kind: string, id: number, value: unknown): void {
  const number = numbers.get(kind);
  if (number !== undefined) {
    number.write(writer.uint32(tag(id, number.wire)), Number(value));
    return;
  }
  writer.uint32(tag(id, LENGTH));
  if (typeof value === 'string') writer.string(value);
  else if (value instanceof Uint8Array) writer.bytes(value);
  else if (typeof value === 'object' && value !== null) {
    writeMessage(writer.fork(), kind, value);
    writer.ldelim();
  } else throw new TypeError(`${kind} with number ${id} is ${typeof value}`);
}

const tag = (id: number, wire: number): number => (id << 3) | wire;

/** A value of a node's attribute: a whole number, a list of them, { float } or { string }. */
export type Attribute =
  number | readonly number[] | { readonly float: number } | { readonly string: string };

export function attribute(name: string, value: Attribute): AttributeMessage {
  if (typeof value === 'number') return { name, type: attributeType.int, i: value };
  if ('float' in value) return { name, type: attributeType.float, f: value.float };
  if ('string' in value) {
    return { name, type: attributeType.string, s: new TextEncoder().encode(value.string) };
  }
  return { name, type: attributeType.ints, ints: value };
}

/** A tensor whose numbers stand in the model's file; little-endian. */
export function inlineTensor(
  name: string,
  type: DataType,
  dims: readonly number[],
  rawData: Uint8Array,
): TensorMessage {
  return { name, dims, dataType: dataType[type], rawData };
}

/** A tensor whose bytes are [offset, offset + bytes) of another file. */
export function externalTensor(
  name: string,
  type: DataType,
  dims: readonly number[],
  { file, offset, bytes }: { file: string; offset: number; bytes: number },
): TensorMessage {
  const externalData = Object.entries({ location: file, offset, length: bytes }).map(
    ([key, value]) => ({ key, value: String(value) }),
  );
  return { name, dims, dataType: dataType[type], externalData, dataLocation: EXTERNAL };
}

/** Type and shape of an input or output; a dimension with a name may have any size. */
export function valueInfo(
  name: string,
  type: DataType,
  shape: readonly (number | string)[],
): ValueInfoMessage {
  const dim = shape.map((size) =>
    typeof size === 'number' ? { dimValue: size } : { dimParam: size },
  );
  return { name, type: { tensorType: { elemType: dataType[type], shape: { dim } } } };
}
