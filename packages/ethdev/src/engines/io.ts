import type { Burst } from '../burst.ts';
import type { Engine } from './engine.ts';

export class IoEngine implements Engine {
  readonly receives = true;
  readonly keepsLengths = true;
  run(_burst: Burst, count: number): number {
    return count;
  }
}
