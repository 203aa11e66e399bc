/** Ready-to-paste lines that plug a served card into a virtual machine. */

const quote = (text: string): string => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`);
const xml = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;').replaceAll("'", '&apos;');

/** QEMU 10.1 or later. Guest memory must be shared, or the card cannot reach it. */
export function qemuLine(path: string): string {
  const device = JSON.stringify({ driver: 'vfio-user-pci', socket: { type: 'unix', path } });
  return `-object memory-backend-memfd,id=mem,size=1G,share=on -machine q35,memory-backend=mem -m 1G -device ${quote(device)}`;
}

/** libvirt has no element of its own for it: QEMU's arguments are passed through (xmlns:qemu on <domain>). */
export function libvirtLines(path: string): string[] {
  const device = JSON.stringify({ driver: 'vfio-user-pci', socket: { type: 'unix', path } });
  return [
    '<memoryBacking><source type="memfd"/><access mode="shared"/></memoryBacking>',
    `<qemu:commandline><qemu:arg value="-device"/><qemu:arg value="${xml(device)}"/></qemu:commandline>`,
  ];
}

export function cloudHypervisorLine(path: string): string {
  return `--memory size=1G,shared=on --user-device ${quote(`socket=${path}`)}`;
}

export function wiring(name: string, path: string): string {
  return [
    `${name} listens on ${path}. Plug it in:`,
    `  QEMU >= 10.1:      qemu-system-x86_64 ${qemuLine(path)} …`,
    `  libvirt:           ${libvirtLines(path)[0]}`,
    `                     ${libvirtLines(path)[1]}`,
    `  cloud-hypervisor:  cloud-hypervisor ${cloudHypervisorLine(path)} …`,
  ].join('\n');
}
