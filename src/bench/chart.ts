import type { Row } from './rows.ts';

const LINE = 26;
const LEFT = 400;
const WIDTH = 900;
const [SHORTEST, LONGEST] = [0.05, 100]; // ratios that the axis reaches

/** How many times as good ours is as each peer, as bars from 1 on a logarithmic axis (SVG). */
export function chart(rows: readonly Row[]): string {
  const bars = rows.filter(({ ratio }) => ratio !== null);
  const height = (bars.length + 2) * LINE;
  const lines = bars.map(({ name, peerName, ratio }, i) => {
    const y = (i + 1) * LINE;
    const [from, to] = [at(Math.min(1, ratio ?? 1)), at(Math.max(1, ratio ?? 1))];
    const fill = (ratio ?? 0) >= 1 ? '#2b7a57' : '#b5472f';
    return [
      `<text x="${LEFT - 10}" y="${y + 15}" text-anchor="end">${escape(`${name}, ${peerName ?? ''}`)}</text>`,
      `<rect x="${from}" y="${y + 3}" width="${Math.max(1, to - from)}" height="${LINE - 8}" fill="${fill}"/>`,
      `<text x="${to + 6}" y="${y + 15}">${ratio}×</text>`,
    ].join('\n');
  });
  const ticks = [0.1, 1, 10, 100].map((value) => {
    const x = at(value);
    const stroke = value === 1 ? '#333' : '#ccc';
    return `<line x1="${x}" x2="${x}" y1="${LINE - 4}" y2="${height - LINE}" stroke="${stroke}"/>
<text x="${x}" y="${height - 8}" text-anchor="middle">${value}×</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH + 60} ${height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
<text x="${LEFT}" y="16" font-weight="bold">ours as a multiple of the peer (more is better)</text>
${[...ticks, ...lines].join('\n')}
</svg>
`;
}

/** Where a ratio stands. */
function at(ratio: number): number {
  const inside = Math.min(LONGEST, Math.max(SHORTEST, ratio));
  const part = Math.log(inside / SHORTEST) / Math.log(LONGEST / SHORTEST);
  return Math.round(LEFT + part * (WIDTH - LEFT));
}

function escape(text: string): string {
  return text.replace(/[&<>]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}
