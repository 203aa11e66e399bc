import type { EngineChoice, EngineName, EngineSpec, Port } from '@emudev/ethdev';

/** `icmpecho` answers as the port it received on, `mac` sends from the port it transmits on. */
export function engineChoice(name: EngineName): EngineChoice {
  const anyMac = Uint8Array.of(0x02, 0, 0, 0, 0, 1);
  if (name === 'icmpecho') return (rx: Port) => ({ name, mac: rx.info.mac ?? anyMac });
  if (name === 'mac') return (_rx: Port, tx: Port) => ({ name, source: tx.info.mac ?? anyMac, destination: Uint8Array.of(0x02, 0, 0, 0, 0, 0) });
  const spec: EngineSpec = { name };
  return spec;
}
