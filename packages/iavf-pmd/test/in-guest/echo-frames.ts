/** Runs inside a guest: node echo-frames.ts ADDRESS FRAMES; drives the card there, sends frames, compares what comes back, says what the counters say. */
import { echo } from '../echo.ts';
import { Driver } from '../two-processes.ts';

const frames = Number(process.argv[3]);
await using driver = await Driver.start(process.argv[2]!);
const { port } = driver;
await echo(driver, frames, [60, 61, 64, 127, 594, 1024, 1514], 64, 60_000);
// Under way again after a reset of the function.
await port.reset();
await echo(driver, frames, [60, 1514], 64, 60_000);
const { ipackets, opackets, ierrors, oerrors } = port.stats();
const device = await port.deviceStats();
console.log(`@result ${JSON.stringify({ trapped: port.trapsDoorbells, link: port.link(), port: [ipackets, opackets, ierrors, oerrors].map(Number), device: [device.rxUnicast, device.txUnicast].map(Number) })}`);
