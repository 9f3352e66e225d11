import {
  attribute,
  dataType,
  externalTensor,
  inlineTensor,
  valueInfo,
  type Attribute,
  type DataType,
  type GraphMessage,
} from './proto.ts';

/** The operators of ONNX Runtime that ONNX does not have. */
export const MICROSOFT = 'com.microsoft';

export interface NodeOptions {
  /** '' is ONNX itself. */
  readonly domain?: '' | typeof MICROSOFT;
  readonly attributes?: Readonly<Record<string, Attribute>>;
}

/** A place in a file of the package. */
export interface Place {
  readonly file: string;
  readonly offset: number;
  readonly bytes: number;
}

type Numbers = Float32Array | BigInt64Array;

/**
 * Collects a graph. Values go by their names, as in ONNX: every method gives the name of what it
 * made, to be the input of what comes next.
 */
export class GraphBuilder {
  readonly #node: GraphMessage['node'][number][] = [];
  readonly #initializer = new Map<string, GraphMessage['initializer'][number]>();
  readonly #input: GraphMessage['input'][number][] = [];
  readonly #output: GraphMessage['output'][number][] = [];
  /** Casts of stored tensors by their source: each is made once. */
  readonly #casts = new Map<string, string>();

  /** A node with one output. */
  node(opType: string, input: readonly string[], options: NodeOptions = {}, name = ''): string {
    const [output = ''] = this.nodeOf(opType, input, [name === '' ? true : name], options);
    return output;
  }

  /** A node with several outputs: true for one that is wanted, a name where it has to be that. */
  nodeOf(
    opType: string,
    input: readonly string[],
    wanted: readonly (boolean | string)[],
    { domain = '', attributes = {} }: NodeOptions = {},
  ): string[] {
    const name = `${opType}_${this.#node.length}`;
    const output = wanted.map((want, i) =>
      typeof want === 'string' ? want : want ? `${name}:${i}` : '',
    );
    const list = Object.entries(attributes).map(([key, value]) => attribute(key, value));
    this.#node.push({ input, output, name, opType, domain, attribute: list });
    return output;
  }

  /** Numbers that stand in the model's file: for what is small. */
  constant(name: string, dims: readonly number[], values: Numbers): string {
    const type = values instanceof Float32Array ? 'f32' : 'i64';
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    this.#initializer.set(name, inlineTensor(name, type, dims, bytes));
    return name;
  }

  /** Whole numbers: a list, or a single one without dimensions. */
  integers(name: string, values: readonly number[] | number): string {
    const list = typeof values === 'number' ? [values] : values;
    const dims = typeof values === 'number' ? [] : [list.length];
    return this.constant(name, dims, BigInt64Array.from(list, BigInt));
  }

  /** A list of bytes. */
  bytes(name: string, values: readonly number[]): string {
    const bytes = Uint8Array.from(values);
    this.#initializer.set(name, inlineTensor(name, 'u8', [bytes.length], bytes));
    return name;
  }

  /** A tensor that lies in a file of the package, once for each name. */
  stored(name: string, type: DataType, dims: readonly number[], place: Place): string {
    this.#initializer.set(name, externalTensor(name, type, dims, place));
    return name;
  }

  /** A stored f16 tensor in f32; ONNX Runtime computes it once, while it loads. */
  stored16(name: string, dims: readonly number[], place: Place): string {
    const known = this.#casts.get(name);
    if (known !== undefined) return known;
    const cast = this.cast(this.stored(name, 'f16', dims, place), 'f32');
    this.#casts.set(name, cast);
    return cast;
  }

  cast(value: string, to: DataType): string {
    return this.node('Cast', [value], { attributes: { to: dataType[to] } });
  }

  /** Parts side by side; a single one is itself. */
  concat(parts: readonly string[], axis: number): string {
    const [first = ''] = parts;
    return parts.length === 1 ? first : this.node('Concat', parts, { attributes: { axis } });
  }

  input(name: string, type: DataType, shape: readonly (number | string)[]): string {
    this.#input.push(valueInfo(name, type, shape));
    return name;
  }

  /** Declares a value, made by its name, as an output of the graph. */
  output(name: string, type: DataType, shape: readonly (number | string)[]): void {
    this.#output.push(valueInfo(name, type, shape));
  }

  build(name: string): GraphMessage {
    return {
      name,
      node: this.#node,
      initializer: [...this.#initializer.values()],
      input: this.#input,
      output: this.#output,
    };
  }
}
