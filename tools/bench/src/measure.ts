/** Runs the contenders of a table in turn, and works out what their runs say. */
import { isEnding } from './processes.ts';
import type { BoundOutcome, MeasuredRow, Ratio, Row } from './result.ts';
import { summarize, type Summary } from './statistics.ts';
import type { Against, Bound, Contender, Effort, Figure, Table } from './table.ts';

type Sample = Readonly<Record<string, number>>;

/** The runs of one contender; undefined where one has failed. */
interface Runs {
  readonly contender: Contender;
  readonly samples: (Sample | undefined)[];
  failure?: string;
}

/** Interleaved: everybody once, then everybody again. */
export async function measure(name: string, table: Table, effort: Effort, progress: (text: string) => void): Promise<Row[]> {
  await using undo = new AsyncDisposableStack();
  const contenders = await table.contenders(effort, undo);
  const all = contenders.map((contender): Runs => ({ contender, samples: [] }));
  for (let run = 1; run <= effort.runs; run++) {
    for (const runs of all) {
      const { who, missing } = runs.contender;
      if (missing !== undefined) continue;
      const heading = `${name} run ${run}/${effort.runs} ${who}:`;
      if (isEnding()) throw new Error('told to end');
      try {
        const sample = checked(await runs.contender.run(effort), table.figures);
        runs.samples.push(sample);
        const { name: first, unit } = table.figures[0];
        progress(`${heading} ${Number(sample[first]!.toPrecision(3))} ${unit}`);
      } catch (error) {
        runs.failure = error instanceof Error ? error.message : String(error);
        runs.samples.push(undefined);
        progress(`${heading} failed: ${runs.failure}`);
      }
    }
  }
  return all.map((runs) => row(runs, all, table.figures));
}

function checked(sample: Sample, figures: readonly Figure[]): Sample {
  for (const { name } of figures) {
    if (!Number.isFinite(sample[name])) throw new Error(`its ${name} is ${String(sample[name])}, not a number`);
  }
  return sample;
}

function row({ contender, samples, failure }: Runs, all: readonly Runs[], figures: readonly [Figure, ...Figure[]]): Row {
  const { who, missing, x, series } = contender;
  const ratios = (contender.against ?? []).map((against) => ratio(against, samples, all, figures));
  const done = samples.filter((sample) => sample !== undefined);
  if (done.length === 0) return { who, missing: missing ?? failure ?? 'no run', ratios };
  const summaries = Object.fromEntries(figures.map(({ name }) => [name, summarize(done.map((sample) => sample[name]!))]));
  const measured: MeasuredRow = {
    who, runs: done.length, ...(x === undefined ? {} : { x }), ...(series === undefined ? {} : { series }),
    figures: summaries, ratios,
    bounds: (contender.bounds ?? []).map((bound) => outcome(bound, summaries)),
  };
  return failure === undefined ? measured : { ...measured, failed: samples.length - done.length, failure };
}

/** Run by run: what a slow minute did to one, it did to the other. */
function ratio({ who, goal, figure: wanted }: Against, samples: Runs['samples'], all: readonly Runs[], figures: readonly [Figure, ...Figure[]]): Ratio {
  const peer = all.find(({ contender }) => contender.who === who);
  const figure = wanted === undefined ? figures[0] : figures.find(({ name }) => name === wanted);
  if (peer === undefined || figure === undefined) throw new Error(`no ${peer === undefined ? who : String(wanted)} to compare with`);
  const ratios = samples.flatMap((sample, run) => {
    const other = peer.samples[run];
    if (sample === undefined || other === undefined) return [];
    const [mine, theirs] = [sample[figure.name]!, other[figure.name]!];
    const times = figure.better === 'more' ? mine / theirs : theirs / mine;
    return Number.isFinite(times) ? [times] : [];
  });
  const what = { who, figure: figure.name, ...(goal === undefined ? {} : { goal }) };
  if (ratios.length === 0) return { ...what, missing: peer.contender.missing ?? peer.failure ?? 'no run in which both came to an end' };
  const summary = summarize(ratios);
  return { ...what, ...(goal === undefined ? {} : { met: summary.median >= goal }), ...summary };
}

function outcome(bound: Bound, summaries: Readonly<Record<string, Summary>>): BoundOutcome {
  const summary = summaries[bound.figure];
  if (summary === undefined) throw new Error(`no figure ${bound.figure} to hold to a bound`);
  return { ...bound, met: summary.median >= (bound.atLeast ?? -Infinity) && summary.median <= (bound.atMost ?? Infinity) };
}
