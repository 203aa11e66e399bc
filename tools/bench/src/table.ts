/**
 * What a table is. One file per table, `tables/NAME.ts`, with a `Table` as its default export; the frame finds it, runs its contenders
 * in turn (interleaved, so that a slow minute of the machine hits them all), and works out medians, spreads, ratios and goals.
 */

export interface Effort {
  /** Runs of each contender. */
  readonly runs: number;
  /** What is not counted of a run, and what is. */
  readonly warmupMs: number;
  readonly windowMs: number;
  /** Frames per burst, everywhere; frames that go round in a loop. */
  readonly burst: number;
  readonly inFlight: number;
  /** Somebody wants to know whether it works, not how fast it is: measure less of whatever the other fields don't say. */
  readonly quick: boolean;
}

/** A column: what is measured of every contender in every run. */
export interface Figure {
  /** Key of `run`'s answer, and of the JSON: `mpps`, `p50Us`, `residentMb`. */
  readonly name: string;
  /** For people: `Mpps`, `us`, `MB`. */
  readonly unit: string;
  readonly better: 'more' | 'less';
}

/** "n times as good as": for a figure of which less is better, the ratio is turned round. */
export interface Against {
  /** Another contender of the table. */
  readonly who: string;
  /** At least so many times as good; absent: compared, nothing wanted. */
  readonly goal?: number;
  /** Default: the table's first figure. */
  readonly figure?: string;
}

/** A figure that is to stay within bounds of its own, whatever others reach. */
export interface Bound {
  readonly figure: string;
  readonly atLeast?: number;
  readonly atMost?: number;
}

export interface Contender {
  /** Unique in its table: one row. */
  readonly who: string;
  /** Why it cannot run here, and what to install; undefined if it can. */
  readonly missing?: string | undefined;
  readonly against?: readonly Against[];
  readonly bounds?: readonly Bound[];
  /** For a table with `x`: where on the axis, and on which line. */
  readonly x?: number;
  readonly series?: string;
  /** One run, from start to end: one number for every figure. Throws where it does not come up: the row says so. */
  run(effort: Effort): Promise<Readonly<Record<string, number>>>;
}

export interface Table {
  /** One sentence: what is measured. */
  readonly what: string;
  /** The first one is what is compared and plotted. */
  readonly figures: readonly [Figure, ...Figure[]];
  /** Drawn as lines over this axis instead of as bars: its title. */
  readonly x?: string;
  /** Called once. What lives longer than one run (a guest, a bridge) goes into `undo`, which is disposed after the last one. */
  contenders(effort: Effort, undo: AsyncDisposableStack): readonly Contender[] | Promise<readonly Contender[]>;
}
