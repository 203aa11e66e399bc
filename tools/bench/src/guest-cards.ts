/**
 * One emulated guest with four network cards, ours and three of QEMU's own, each behind a TAP interface of its own in one network
 * namespace: what the guest tables compare. The cards take turns, in one guest, so that they differ in nothing but themselves.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Guest } from '@emudev/guest';
import { missingNamespace, NetworkNamespace } from './network-namespace.ts';
import { missingPeer } from './peers.ts';
import { Child, TemporaryFolder } from './processes.ts';

const DEVICE_PROGRAM = fileURLToPath(new URL('../../../apps/iavf-device/dist/cli.js', import.meta.url));
const START_MS = 20_000;

export type CardName = 'iavf' | 'e1000e' | 'igb' | 'virtio-net';
/** QEMU's name of the model; ours is plugged in by vfio-user. */
const MODELS: Readonly<Record<CardName, string | undefined>> = { iavf: undefined, e1000e: 'e1000e', igb: 'igb', 'virtio-net': 'virtio-net-pci' };
export const CARDS: readonly CardName[] = ['iavf', 'e1000e', 'igb', 'virtio-net'];

export interface GuestCards {
  readonly guest: Guest;
  readonly namespace: NetworkNamespace;
  /** The host's address on the TAP of a card, and the guest's. */
  host(card: CardName): string;
}

const macOf = (index: number): string => `52:54:00:be:00:0${String(index + 1)}`;
const addressOf = (card: CardName, host: 1 | 2): string => `10.91.${String(CARDS.indexOf(card) + 1)}.${String(host)}`;

/** Everything up and every card answering; all of it goes with `undo`. */
async function start(undo: AsyncDisposableStack): Promise<GuestCards> {
  const folder = undo.use(new TemporaryFolder());
  const namespace = undo.use(new NetworkNamespace('bench'));
  const socket = folder.file('iavf.sock');
  const device = undo.use(new Child('iavf-device', [
    ...namespace.prefix, process.execPath, DEVICE_PROGRAM, '--vdev', `emu_iavf0,path=${socket},mac=${macOf(0)}`, '--vdev', 'net_iavf_be0,emu=emu_iavf0',
    '--vdev', 'net_tap0,iface=bench0', '--forward', 'net_iavf_be0=net_tap0', '--log-level', 'info',
  ]));
  await device.line((line) => line.includes(' listens on '), START_MS);
  // The two flags say that copying byte by byte (rep movsb) is fast, and the guest's kernel then copies so. QEMU's translated code does it byte by byte
  // indeed: half of the processor's time would be that, whatever the card.
  const extraArgs = ['-cpu', 'max,-erms,-fsrm'];
  for (const [i, card] of CARDS.entries()) {
    const model = MODELS[card];
    if (model !== undefined) {
      namespace.sync(`ip tuntap add bench${String(i)} mode tap vnet_hdr`);
      extraArgs.push('-netdev', `tap,id=net${String(i)},ifname=bench${String(i)},script=no,downscript=no,vhost=off`, '-device', `${model},netdev=net${String(i)},mac=${macOf(i)},romfile=`);
    }
    namespace.sync(`ip addr add ${addressOf(card, 1)}/24 dev bench${String(i)} && ip link set bench${String(i)} up`);
  }
  // One processor for the guest and one for whatever moves its frames.
  const guest = undo.use(await Guest.boot({ accel: 'tcg', cpus: 1, sockets: [socket], startedBy: namespace.prefix, extraArgs }));
  for (const [i, card] of CARDS.entries()) {
    const found = await guest.until(`grep -l -i ${macOf(i)} /sys/class/net/*/address`, (output) => output.includes('/sys/class/net/'), { what: `the ${card} card` });
    const iface = found.split('/')[4]!;
    await guest.run(`ip link set ${iface} down; ip link set ${iface} name card${String(i)}; ip addr add ${addressOf(card, 2)}/24 dev card${String(i)}; ip link set card${String(i)} up`);
  }
  for (const card of CARDS) await guest.until(`ping -c 1 -W 1 ${addressOf(card, 1)}`, (output) => output.includes(' 1 received'), { what: `an answer through ${card}` });
  return { guest, namespace, host: (card) => addressOf(card, 1) };
}

/** The cards, or why there are none: what every contender's row says then. */
export async function guestCards(undo: AsyncDisposableStack, programs: readonly 'iperf3'[] = []): Promise<GuestCards | { readonly missing: string }> {
  const missing = missingNamespace() ?? (existsSync(DEVICE_PROGRAM) ? undefined : 'apps/iavf-device is not built') ?? programs.map(missingPeer).find((reason) => reason !== undefined);
  if (missing !== undefined) return { missing };
  try {
    return await start(undo);
  } catch (error) {
    return { missing: `no guest: ${error instanceof Error ? error.message.split('\n')[0]! : String(error)}` };
  }
}
