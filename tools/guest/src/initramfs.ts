/** The guest's whole disk: userland, modules, and an init that offers a command channel on its second serial port. */
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { once, type Progress } from './cache.ts';
import { cpio, type CpioEntry } from './cpio.ts';
import type { Kernel } from './kernel.ts';
import { userland } from './userland.ts';

const INIT = `#!/usr/bin/busybox sh
export PATH=/usr/bin:/bin HOME=/root TERM=linux
/usr/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /tmp /run /root /var/run; mount -t devpts pts /dev/pts; mount -t tmpfs tmp /tmp
hostname guest
for m in $(cat /modules/order); do insmod /modules/$m.ko || echo "insmod $m failed"; done
ip link set lo up
shell=; columns=80; rows=24
for word in $(cat /proc/cmdline); do
  case $word in emudev.shell) shell=yes ;; emudev.columns=*) columns=\${word#*=} ;; emudev.rows=*) rows=\${word#*=} ;; esac
done
if [ -n "$shell" ]; then
  # A session with the serial line as its terminal, and not in the background, or Ctrl-C would interrupt nothing.
  PS1='guest:\\w# ' setsid -c sh -c "stty columns $columns rows $rows; exec bash -l" </dev/ttyS0 >/dev/ttyS0 2>&1
  poweroff -f
fi
exec bash /agent </dev/ttyS1 >/dev/ttyS1 2>/dev/null
`;

/** One line in: an id and a base64 script. One line out: the id, its exit code and its output. */
const AGENT = `stty raw -echo
echo "@@ready $(uname -r)"
while read -r id script; do
  echo "$script" | base64 -d > /tmp/.script
  bash /tmp/.script > /tmp/.output 2>&1 < /dev/null
  code=$?
  echo "@@done $id $code $(base64 -w 0 /tmp/.output)"
done
`;

/** busybox udhcpc calls this with the lease in its environment. */
const UDHCPC = `#!/bin/sh
case "$1" in
  deconfig) ip addr flush dev $interface scope global; ip link set $interface up ;;
  bound|renew)
    ip addr replace $ip/\${mask:-24} dev $interface
    [ -n "$router" ] && ip route replace default via \${router%% *} dev $interface
    : > /etc/resolv.conf; for d in $dns; do echo "nameserver $d" >> /etc/resolv.conf; done
    echo "lease $ip mask $mask router $router dns $dns server $serverid" ;;
esac
exit 0
`;

/** What a guest has on its disk besides the usual. */
export interface Equipment {
  /** Names what is in it: equal stamps, equal equipment. */
  readonly stamp: string;
  /** Loaded after the usual modules, in this order. */
  readonly modules: readonly string[];
  readonly entries: readonly CpioEntry[];
}

export async function initramfs(kernel: Kernel, progress: Progress, equipment?: Equipment): Promise<string> {
  const modules = [...kernel.modules, ...(equipment?.modules ?? [])];
  const stamp = createHash('sha256').update(INIT + AGENT + UDHCPC + modules.join('\n') + (equipment?.stamp ?? '') + readFileSync(new URL('./userland.ts', import.meta.url), 'utf8')).digest('hex').slice(0, 12);
  const folder = await once(`initramfs/${kernel.release}-${stamp}`, async (target) => {
    const programs = await userland(progress);
    progress(`kernel ${kernel.name}: building the initial file system`);
    const text = (path: string, content: string, mode = 0o755): CpioEntry => ({ path, kind: 'file', mode, content: Buffer.from(content) });
    const entries: CpioEntry[] = [
      { path: 'bin', kind: 'folder' }, { path: 'proc', kind: 'folder' }, { path: 'sys', kind: 'folder' },
      { path: 'dev', kind: 'folder' }, { path: 'etc', kind: 'folder' },
      { path: 'dev/console', kind: 'device', major: 5, minor: 1 },
      { path: 'lib', kind: 'link', target: 'usr/lib' }, { path: 'lib64', kind: 'link', target: 'usr/lib64' }, { path: 'sbin', kind: 'link', target: 'bin' },
      text('init', INIT), text('agent', AGENT), text('usr/share/udhcpc/default.script', UDHCPC), text('etc/udhcpc/default.script', UDHCPC),
      text('etc/passwd', 'root::0:0:root:/root:/bin/sh\ntcpdump:x:100:100::/:/bin/false\n', 0o644), text('etc/group', 'root:x:0:\ntcpdump:x:100:\n', 0o644),
      text('modules/order', modules.map((m) => basename(m, '.ko')).join('\n'), 0o644),
      ...modules.map((m): CpioEntry => ({ path: `modules/${basename(m)}`, kind: 'file', mode: 0o644, content: readFileSync(m) })),
      ...programs,
      ...(equipment?.entries ?? []),
    ];
    writeFileSync(join(target, 'initramfs.cpio'), cpio(entries));
  });
  return join(folder, 'initramfs.cpio');
}
