import type { AdapterInfo } from '../src/format/manifest.ts';

/**
 * The gates of a merged adapter as a picture (SVG): a row for every linear, from the first layer
 * down; a column for every specific expert, task by task. Darker is more, from 0 to the largest.
 */

const CELL = { width: 26, height: 9 };
const TASK_GAP = 14;
const MARGIN = { left: 190, top: 46, right: 16, bottom: 34 };
const FONT = 'font-family="sans-serif" font-size="9"';
/** White to a dark blue, in red, green and blue. */
const LOW = [247, 251, 255] as const;
const HIGH = [8, 48, 107] as const;

/** @returns null where there is nothing to show: a routed adapter decides at every token */
export function gatesHeatmap({ gates, linears, experts }: AdapterInfo): string | null {
  const tasks = Object.entries(gates);
  if (tasks.length === 0) return null;
  const most = Math.max(...tasks.flatMap(([, rows]) => rows.flat().map(Math.abs)), 1e-9);
  const specific = experts - 1;
  const taskWidth = specific * CELL.width + TASK_GAP;
  const width = MARGIN.left + tasks.length * taskWidth + MARGIN.right;
  const height = MARGIN.top + linears.length * CELL.height + MARGIN.bottom;
  const parts: string[] = [];
  tasks.forEach(([task, rows], t) => {
    const left = MARGIN.left + t * taskWidth;
    parts.push(text(left, MARGIN.top - 20, task, 'start'));
    for (let e = 0; e < specific; e++) {
      const middle = left + (e + 0.5) * CELL.width;
      parts.push(text(middle, MARGIN.top - 6, `expert ${e + 1}`, 'middle', 6));
    }
    rows.forEach((row, i) => {
      const top = MARGIN.top + i * CELL.height;
      row.forEach((gate, e) => {
        const title = `${task}, ${linears[i]?.linear ?? ''}, expert ${e + 1}: ${gate.toFixed(4)}`;
        parts.push(
          `<rect x="${left + e * CELL.width}" y="${top}" width="${CELL.width}" ` +
            `height="${CELL.height}" fill="${colour(gate / most)}"><title>${escape(title)}</title></rect>`,
        );
      });
    });
  });
  linears.forEach(({ linear }, i) => {
    parts.push(text(MARGIN.left - 6, MARGIN.top + (i + 0.8) * CELL.height, linear, 'end', 8));
  });
  parts.push(text(MARGIN.left, height - 12, `0 is white, ${most.toFixed(3)} is the darkest`));
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" ` +
    `viewBox="0 0 ${width} ${height}">\n<rect width="100%" height="100%" fill="white"/>\n` +
    `${parts.join('\n')}\n</svg>\n`
  );
}

function text(x: number, y: number, content: string, anchor = 'start', size = 9): string {
  const font = FONT.replace('9"', `${size}"`);
  return `<text x="${x}" y="${y}" text-anchor="${anchor}" ${font}>${escape(content)}</text>`;
}

/** @param share 0 is white, 1 the darkest; a negative gate is red */
function colour(share: number): string {
  if (share < 0)
    return `rgb(255, ${Math.round(255 * (1 + share))}, ${Math.round(255 * (1 + share))})`;
  const mixed = LOW.map((low, i) => Math.round(low + ((HIGH[i] ?? 0) - low) * share));
  return `rgb(${mixed.join(', ')})`;
}

function escape(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}
