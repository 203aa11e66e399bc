import type { Burst } from '../burst.ts';
import type { Engine } from './engine.ts';

export class RxOnlyEngine implements Engine {
  readonly receives = true;
  run(_burst: Burst, _count: number): number {
    return 0;
  }
}
