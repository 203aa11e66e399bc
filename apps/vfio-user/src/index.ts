/**
 * The parts of the `vfio-user` command that a program can use as well.
 *
 * @packageDocumentation
 */
export {};
