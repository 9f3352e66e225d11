import type { AdapterInfo } from '../src/format/manifest.ts';
import { encodePng } from './png.ts';

/**
 * The gates of a merged adapter as a picture: a row for every linear, from the first layer
 * down; a column for every specific expert, task by task. Darker is more, from 0 to the largest.
 */

const CELL = { width: 26, height: 9 };
const TASK_GAP = 14;
const MARGIN = { left: 190, top: 46, right: 16, bottom: 34 };
const FONT = 'font-family="sans-serif" font-size="9"';
/** White to a dark blue, in red, green and blue. */
const LOW = [247, 251, 255] as const;
const HIGH = [8, 48, 107] as const;

/** A rectangle for every gate. */
interface Cell {
  readonly x: number;
  readonly y: number;
  readonly colour: readonly [red: number, green: number, blue: number];
  readonly title: string;
}

interface Layout {
  readonly width: number;
  readonly height: number;
  readonly cells: readonly Cell[];
  /** Where each task begins, and the largest gate. */
  readonly tasks: readonly { readonly name: string; readonly left: number }[];
  readonly most: number;
}

function layOut({ gates, linears, experts }: AdapterInfo, margin: typeof MARGIN): Layout | null {
  const tasks = Object.entries(gates);
  if (tasks.length === 0) return null;
  const most = Math.max(...tasks.flatMap(([, rows]) => rows.flat().map(Math.abs)), 1e-9);
  const taskWidth = (experts - 1) * CELL.width + TASK_GAP;
  const cells = tasks.flatMap(([task, rows], t) =>
    rows.flatMap((row, i) =>
      row.map((gate, e): Cell => ({
        x: margin.left + t * taskWidth + e * CELL.width,
        y: margin.top + i * CELL.height,
        colour: colour(gate / most),
        title: `${task}, ${linears[i]?.linear ?? ''}, expert ${e + 1}: ${gate.toFixed(4)}`,
      })),
    ),
  );
  return {
    width: margin.left + tasks.length * taskWidth + margin.right,
    height: margin.top + linears.length * CELL.height + margin.bottom,
    cells,
    tasks: tasks.map(([name], t) => ({ name, left: margin.left + t * taskWidth })),
    most,
  };
}

/**
 * The picture with its words, as SVG.
 * @returns null where there is nothing to show: a routed adapter decides at every token
 */
export function gatesHeatmap(adapter: AdapterInfo): string | null {
  const layout = layOut(adapter, MARGIN);
  if (layout === null) return null;
  const { width, height, cells, tasks, most } = layout;
  const parts: string[] = [];
  for (const { name, left } of tasks) {
    parts.push(text(left, MARGIN.top - 20, name, 'start'));
    for (let e = 0; e < adapter.experts - 1; e++) {
      const middle = left + (e + 0.5) * CELL.width;
      parts.push(text(middle, MARGIN.top - 6, `expert ${e + 1}`, 'middle', 6));
    }
  }
  for (const { x, y, colour: rgb, title } of cells) {
    parts.push(
      `<rect x="${x}" y="${y}" width="${CELL.width}" ` +
        `height="${CELL.height}" fill="rgb(${rgb.join(', ')})"><title>${escape(title)}</title></rect>`,
    );
  }
  adapter.linears.forEach(({ linear }, i) => {
    parts.push(text(MARGIN.left - 6, MARGIN.top + (i + 0.8) * CELL.height, linear, 'end', 8));
  });
  parts.push(text(MARGIN.left, height - 12, `0 is white, ${most.toFixed(3)} is the darkest`));
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" ` +
    `viewBox="0 0 ${width} ${height}">\n<rect width="100%" height="100%" fill="white"/>\n` +
    `${parts.join('\n')}\n</svg>\n`
  );
}

/** The same without words, as PNG; they are in the file's text. @returns null as above */
export function gatesPng(adapter: AdapterInfo): Uint8Array | null {
  const layout = layOut(adapter, { left: TASK_GAP, top: TASK_GAP, right: 0, bottom: TASK_GAP });
  if (layout === null) return null;
  const { width, height, cells, tasks, most } = layout;
  const rgb = new Uint8Array(3 * width * height).fill(255);
  for (const { x, y, colour: own } of cells) {
    for (let row = y; row < y + CELL.height; row++) {
      for (let column = x; column < x + CELL.width; column++)
        rgb.set(own, 3 * (row * width + column));
    }
  }
  const names = tasks.map(({ name }) => name).join(', ');
  const last = adapter.linears.at(-1)?.linear ?? '';
  const rows = `rows: ${adapter.linears[0]?.linear ?? ''} to ${last}`;
  const columns = `columns: experts 1 to ${adapter.experts - 1} of ${names}`;
  const range = `white is 0, the darkest is ${most.toFixed(3)}`;
  return encodePng({ width, height, rgb }, { Description: `${rows}; ${columns}; ${range}` });
}

function text(x: number, y: number, content: string, anchor = 'start', size = 9): string {
  const font = FONT.replace('9"', `${size}"`);
  return `<text x="${x}" y="${y}" text-anchor="${anchor}" ${font}>${escape(content)}</text>`;
}

/** @param share 0 is white, 1 the darkest; a negative gate is red */
function colour(share: number): Cell['colour'] {
  if (share < 0) return [255, Math.round(255 * (1 + share)), Math.round(255 * (1 + share))];
  const mixed = (i: 0 | 1 | 2) => Math.round(LOW[i] + (HIGH[i] - LOW[i]) * share);
  return [mixed(0), mixed(1), mixed(2)];
}

function escape(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}
