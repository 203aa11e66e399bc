/** The guide's own test of the guide's own card; the part in a real guest is guide.guest.test.ts. */
import { afterAll } from 'vitest';
import { guideFiles } from './guide.ts';

const files = guideFiles('guide-unit');
afterAll(() => { files[Symbol.dispose](); });
await import(`${files.folder}crc-card.test.ts`);
