import { describe, expect, it } from 'vitest';
import { exampleManifest } from '../src/format/testing.ts';
import { gatesHeatmap } from './heatmap.ts';

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
