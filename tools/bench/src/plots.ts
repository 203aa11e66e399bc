/** One SVG per table: bars with a whisker from the smallest to the largest run, or lines where the table has an axis. */
import { compile, type TopLevelSpec } from 'vega-lite';
import { parse, View } from 'vega';
import type { TableResult } from './result.ts';

const WIDTH = 480;
const BAR_STEP = 34;
const HEIGHT = 260;
/** An axis from 1 to so much is drawn in powers of two. */
const DOUBLING_FROM = 8;

function spec({ name, what, figures, rows, x }: TableResult): TopLevelSpec | undefined {
  const [{ name: figure, unit }] = figures;
  const values = rows.flatMap((row) => {
    if ('missing' in row) return [];
    const { median, min, max } = row.figures[figure]!;
    return [{ who: row.who, series: row.series ?? row.who, x: row.x, median, min, max }];
  });
  if (values.length === 0) return undefined;
  const frame = {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json', background: 'white', padding: 10,
    title: { text: name, subtitle: wrapped(what), anchor: 'start' as const, subtitleColor: '#555' }, data: { values }, width: WIDTH,
  };
  const value = { type: 'quantitative' as const, title: `${figure} (${unit})`, scale: { zero: true } };
  const series = { field: 'series', type: 'nominal' as const, title: null, sort: null, scale: { scheme: 'tableau10' as const } };
  if (x !== undefined) {
    const places = values.map((value) => value.x ?? 0);
    const doubling = Math.min(...places) > 0 && Math.max(...places) >= DOUBLING_FROM * Math.min(...places);
    const along = { field: 'x', type: 'quantitative' as const, title: x, scale: doubling ? { type: 'log' as const, base: 2 } : {} };
    return {
      ...frame, height: HEIGHT,
      layer: [
        { mark: { type: 'line', point: true }, encoding: { x: along, y: { field: 'median', ...value }, color: series } },
        { mark: 'rule', encoding: { x: along, y: { field: 'min', ...value }, y2: { field: 'max' }, color: series } },
      ],
    };
  }
  const across = { field: 'who', type: 'nominal' as const, title: null, sort: null, axis: { labelLimit: 300 } };
  return {
    ...frame, height: { step: BAR_STEP },
    layer: [
      { mark: { type: 'bar', color: '#4c78a8' }, encoding: { y: across, x: { field: 'median', ...value } } },
      { mark: { type: 'errorbar', ticks: true, color: '#222' }, encoding: { y: across, x: { field: 'min', ...value }, x2: { field: 'max' } } },
    ],
  };
}

const LINE_CHARACTERS = 90;

function wrapped(text: string): string[] {
  const lines = [''];
  for (const word of text.split(' ')) {
    if (lines.at(-1)!.length + word.length > LINE_CHARACTERS) lines.push('');
    lines.push(`${lines.pop()!} ${word}`.trimStart());
  }
  return lines;
}

/** Undefined where no row of the table has a figure. */
export async function plot(table: TableResult): Promise<string | undefined> {
  const drawing = spec(table);
  if (drawing === undefined) return undefined;
  const view = new View(parse(compile(drawing).spec), { renderer: 'none' });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}
