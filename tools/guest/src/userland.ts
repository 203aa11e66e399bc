/** The guest's programs: busybox, bash (busybox' own shell prefers its applets to the programs of the same name), and the real ethtool, ip, ping, iperf3, tcpdump, lspci and setpci, with the libraries they load. */
import { cpSync, existsSync, lstatSync, readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { once, type Progress } from './cache.ts';
import { candidate, unpacked } from './debian.ts';
import type { CpioEntry } from './cpio.ts';

/**
 * Debian 12's programs for every guest: its ethtool asks old and new kernels alike in the form all of them understand (a later one
 * fills a field of `-X` that Linux 6.1 refuses and the iavf driver of 6.12 takes for a wish for a symmetric hash).
 */
const SUITE = 'bookworm';
const PACKAGES = ['busybox-static', 'ethtool', 'iproute2', 'iputils-ping', 'iperf3', 'tcpdump', 'pciutils', 'bash', 'libc6'];
const PROGRAMS = ['ethtool', 'ip', 'ss', 'tc', 'bridge', 'ping', 'iperf3', 'tcpdump', 'lspci', 'setpci', 'bash'];

async function tree(progress: Progress): Promise<string> {
  const stamp = await candidate(SUITE, 'iperf3', progress);
  return unpacked(`userland/${PACKAGES.length}_${stamp.replace(/[^\w.+-]/g, '_')}`, SUITE, PACKAGES, { alone: false, progress });
}

/** Path of a static busybox that runs on this machine too. */
export async function busybox(progress: Progress): Promise<string> {
  const folder = await once(`busybox/${(await candidate(SUITE, 'busybox-static', progress)).replace(/[^\w.+-]/g, '_')}`, async (target) => {
    const root = await unpacked(`unpacked/busybox-static-${SUITE}`, SUITE, ['busybox-static'], { alone: true, progress });
    cpSync(['usr/bin/busybox', 'bin/busybox'].map((p) => join(root, p)).find((p) => existsSync(p))!, join(target, 'busybox'));
  });
  return join(folder, 'busybox');
}

/** The files of the userland as cpio entries. */
export async function userland(progress: Progress): Promise<CpioEntry[]> {
  const root = await tree(progress);
  const entries: CpioEntry[] = [];
  const add = (from: string, to: string): void => {
    const status = lstatSync(from);
    if (status.isSymbolicLink()) entries.push({ path: to, kind: 'link', target: readlinkSync(from) });
    else if (status.isFile()) entries.push({ path: to, kind: 'file', mode: status.mode & 0o7777, content: readFileSync(from) });
  };
  for (const program of PROGRAMS) {
    const found = ['usr/bin', 'usr/sbin', 'bin', 'sbin'].map((d) => join(root, d, program)).find((p) => existsSync(p));
    if (found === undefined) throw new Error(`the guest userland lacks ${program}`);
    entries.push({ path: `usr/bin/${program}`, kind: 'file', mode: 0o755, content: readFileSync(found) });
  }
  for (const folder of ['usr/lib', 'lib'].map((f) => join(root, f, 'x86_64-linux-gnu')).filter((f) => existsSync(f))) {
    for (const name of readdirSync(folder)) if (/\.so(\.|$)/.test(name)) add(join(folder, name), `usr/lib/x86_64-linux-gnu/${name}`);
  }
  // The name every program asks for its loader by; the guest's /lib64 leads to /usr/lib64.
  entries.push({ path: 'usr/lib64/ld-linux-x86-64.so.2', kind: 'link', target: '../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2' });
  entries.push({ path: 'usr/bin/busybox', kind: 'file', mode: 0o755, content: readFileSync(await busybox(progress)) });
  return entries;
}
