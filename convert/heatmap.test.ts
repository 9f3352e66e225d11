import { inflateSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { exampleManifest } from '../src/format/testing.ts';
import { gatesHeatmap, gatesPng } from './heatmap.ts';

function adapterOf(mode?: 'merged' | 'routed') {
  const { adapter } = exampleManifest(mode);
  if (adapter === null) throw new Error('no adapter');
  return adapter;
}

describe('the heatmap of gates', () => {
  it('has a cell for every gate, which says what it is, the largest one darkest', () => {
    const adapter = adapterOf();
    const tasks = Object.keys(adapter.gates);
    const gates = Object.fromEntries(
      tasks.map((task, t) => [
        task,
        adapter.linears.map((_, i) =>
          Array.from({ length: adapter.experts - 1 }, (__, e) =>
            i === 1 && t + e === 0 ? 0.9 : 0.1,
          ),
        ),
      ]),
    );
    const svg = gatesHeatmap({ ...adapter, gates }) ?? '';
    const cells = tasks.length * adapter.linears.length * (adapter.experts - 1);
    expect(svg.match(/<title>/g)).toHaveLength(cells);
    const darkest = svg.split('\n').filter((line) => line.includes('rgb(8, 48, 107)'));
    expect(darkest).toHaveLength(1);
    expect(darkest[0]).toContain(`${tasks[0]}, ${adapter.linears[1]?.linear}, expert 1: 0.9000`);
    for (const { linear } of adapter.linears) expect(svg).toContain(`>${linear}</text>`);
    expect(svg).toContain('0.900 is the darkest');
    expect(svg.startsWith('<svg ') && svg.endsWith('</svg>\n')).toBe(true);
  });

  it('as PNG has the same cells in the same colours, as far apart', () => {
    const adapter = adapterOf();
    const [task = '', other = ''] = Object.keys(adapter.gates);
    const rows = adapter.linears.map((_, i) => [i === 2 ? 0.5 : 0, 0, -0.25]);
    const drawn = { ...adapter, gates: { [task]: rows, [other]: rows } };
    const file = Buffer.from(gatesPng(drawn) ?? []);
    const [width, height] = [file.readUInt32BE(16), file.readUInt32BE(20)];
    const data = file.indexOf('IDAT');
    const pixels = inflateSync(file.subarray(data + 4, data + 4 + file.readUInt32BE(data - 4)));
    const found: Record<string, number[]> = {};
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const at = y * (1 + 3 * width) + 1 + 3 * x;
        const colour = [...pixels.subarray(at, at + 3)].join(', ');
        (found[colour] ??= []).push(x, y);
      }
    }
    const svg = gatesHeatmap(drawn) ?? '';
    const cells = (colour: string) =>
      [...svg.matchAll(/<rect x="(\d+)" y="(\d+)" width="26" height="9" fill="rgb\((.*?)\)"/g)]
        .filter(([, , , own]) => own === colour)
        .map(([, x, y]) => [Number(x), Number(y)]);
    for (const colour of ['8, 48, 107', '255, 128, 128']) {
      const places = cells(colour);
      expect(found[colour]).toHaveLength(2 * 26 * 9 * places.length);
      const [first = [], last = []] = [places[0], places.at(-1)];
      const [x = NaN, y = NaN] = found[colour] ?? [];
      const [lastX = NaN, lastY = NaN] = found[colour]?.slice(-2) ?? [];
      expect(lastX - x).toBe((last[0] ?? 0) - (first[0] ?? 0) + 25);
      expect(lastY - y).toBe((last[1] ?? 0) - (first[1] ?? 0) + 8);
    }
    expect(cells('8, 48, 107')).toHaveLength(2);
    expect(file.toString('latin1')).toContain('the darkest is 0.500');
    expect(gatesPng(adapterOf('routed'))).toBeNull();
  });

  it('keeps names of tasks from being markup', () => {
    const adapter = adapterOf();
    const [rows = []] = Object.values(adapter.gates);
    const svg = gatesHeatmap({ ...adapter, gates: { '<b>&"': rows } }) ?? '';
    expect(svg).toContain('&lt;b>&amp;&quot;');
    expect(svg).not.toContain('<b>');
  });

  it('is not there for an adapter that routes every token', () => {
    expect(gatesHeatmap(adapterOf('routed'))).toBeNull();
  });
});
