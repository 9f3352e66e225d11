import protobuf from 'protobufjs/light.js';

/**
 * The part of ONNX's file format that a model of ours needs. Field numbers and enum values are
 * those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3.
 */

/** TensorProto.DataType. */
export const dataType = { f32: 1, u8: 2, i32: 6, i64: 7, bool: 9, f16: 10 } as const;
export type DataType = keyof typeof dataType;

/** AttributeProto.AttributeType. */
const attributeType = { float: 1, int: 2, ints: 7 } as const;

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

const field = (type: string, id: number) => ({ type, id });
const list = (type: string, id: number) => ({ type, id, rule: 'repeated' });

const root = protobuf.Root.fromJSON({
  nested: {
    ModelProto: {
      fields: {
        irVersion: field('int64', 1),
        producerName: field('string', 2),
        producerVersion: field('string', 3),
        graph: field('GraphProto', 7),
        opsetImport: list('OperatorSetIdProto', 8),
        metadataProps: list('StringStringEntryProto', 14),
      },
    },
    OperatorSetIdProto: { fields: { domain: field('string', 1), version: field('int64', 2) } },
    StringStringEntryProto: { fields: { key: field('string', 1), value: field('string', 2) } },
    GraphProto: {
      fields: {
        node: list('NodeProto', 1),
        name: field('string', 2),
        initializer: list('TensorProto', 5),
        input: list('ValueInfoProto', 11),
        output: list('ValueInfoProto', 12),
      },
    },
    NodeProto: {
      fields: {
        input: list('string', 1),
        output: list('string', 2),
        name: field('string', 3),
        opType: field('string', 4),
        attribute: list('AttributeProto', 5),
        domain: field('string', 7),
      },
    },
    AttributeProto: {
      fields: {
        name: field('string', 1),
        f: field('float', 2),
        i: field('int64', 3),
        ints: list('int64', 8),
        type: field('int32', 20),
      },
    },
    TensorProto: {
      fields: {
        dims: list('int64', 1),
        dataType: field('int32', 2),
        name: field('string', 8),
        rawData: field('bytes', 9),
        externalData: list('StringStringEntryProto', 13),
        dataLocation: field('int32', 14),
      },
    },
    ValueInfoProto: { fields: { name: field('string', 1), type: field('TypeProto', 2) } },
    TypeProto: { fields: { tensorType: field('TensorTypeProto', 1) } },
    TensorTypeProto: {
      fields: { elemType: field('int32', 1), shape: field('TensorShapeProto', 2) },
    },
    TensorShapeProto: { fields: { dim: list('DimensionProto', 1) } },
    DimensionProto: { fields: { dimValue: field('int64', 1), dimParam: field('string', 2) } },
  },
});
const modelType = root.lookupType('ModelProto');

/** A model as the bytes of an .onnx file. The same model gives the same bytes. */
export function encodeModel(model: ModelMessage): Uint8Array {
  return modelType.encode(modelType.fromObject(model)).finish();
}

/** The messages of an .onnx file, as far as they are known here. */
export function decodeModel(bytes: Uint8Array): unknown {
  return modelType.toObject(modelType.decode(bytes));
}

/** A value of a node's attribute: a whole number, a list of them, or { float }. */
export type Attribute = number | readonly number[] | { readonly float: number };

export function attribute(name: string, value: Attribute): AttributeMessage {
  if (typeof value === 'number') return { name, type: attributeType.int, i: value };
  if ('float' in value) return { name, type: attributeType.float, f: value.float };
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
