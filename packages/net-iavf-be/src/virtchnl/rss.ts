/** CONFIG_RSS_KEY, CONFIG_RSS_LUT, GET_RSS_HENA_CAPS, SET_RSS_HENA. */
import { Capability, decodeRssHena, decodeRssKey, decodeRssLut, DEFAULT_HENA, encodeRssHena, Opcode, requireValue } from '@emudev/virtchnl';
import { RSS_KEY_BYTES, RSS_LUT_ENTRIES } from '../layout.ts';
import { DONE, noBody, operation, type Operation } from './operation.ts';

const RSS = Capability.RSS_PF;
export const rssOperations: readonly Operation[] = [
  operation(Opcode.CONFIG_RSS_KEY, RSS, decodeRssKey, async (adapter, { vsiId, key }, opcode) => {
    adapter.requireVsi(opcode, vsiId);
    requireValue(key.length === RSS_KEY_BYTES, opcode, `a key of ${RSS_KEY_BYTES} bytes`, key.length);
    adapter.rss.setKey(key);
    await adapter.synchronize();
    return DONE;
  }),
  operation(Opcode.CONFIG_RSS_LUT, RSS, decodeRssLut, (adapter, { vsiId, lut }, opcode) => {
    adapter.requireVsi(opcode, vsiId);
    requireValue(lut.length === RSS_LUT_ENTRIES, opcode, `a table of ${RSS_LUT_ENTRIES} entries`, lut.length);
    adapter.rss.setLut(lut, adapter.pairs);
    return DONE;
  }),
  operation(Opcode.GET_RSS_HENA_CAPS, RSS, noBody, () => ({ payload: encodeRssHena(DEFAULT_HENA) })),
  operation(Opcode.SET_RSS_HENA, RSS, decodeRssHena, (adapter, hena) => {
    adapter.rss.setHena(hena);
    return DONE;
  }),
];
