/** A card in a process of its own: `card-main.ts PATH`. */
import { Window } from '@emudev/dma';
import { VfioUserServer } from '@emudev/vfio-user-server';
import { Card } from './card.ts';

const server = new VfioUserServer(new Card(), { window: Window.open() });
await server.listen(process.argv[2]!);
process.stdout.write('listening\n');
