/** What a fuzzer found. */
export class FuzzFailure extends Error {
  override readonly name = 'FuzzFailure';
}
