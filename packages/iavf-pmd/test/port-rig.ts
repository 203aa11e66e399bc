/** What the port tests take from the class, under one roof. */
import { attachWindow, type Window, type WindowView } from '@emudev/dma';

export { allocateBurst, type LcoreContext, type LinkStatus, type PortDatapath } from '@emudev/ethdev';

/** The window as an lcore sees it. */
export const attachablePort = (window: Window): WindowView => attachWindow(window.memory, window.base);
