/**
 * emudev driver: the Intel Adaptive Virtual Function (iavf) network card, provider half.
 *
 * @packageDocumentation
 */
export {};
