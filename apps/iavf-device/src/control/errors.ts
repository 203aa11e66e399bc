export type ControlErrorCode =
  /** Not one JSON object on one line. */
  | 'ERR_CONTROL_SYNTAX'
  /** A line that is longer than any request; the connection ends with it. */
  | 'ERR_CONTROL_LINE'
  | 'ERR_CONTROL_COMMAND'
  /** A field that is missing, unknown, or of another type. */
  | 'ERR_CONTROL_FIELD'
  /** Too many clients; the connection ends with it. */
  | 'ERR_CONTROL_CLIENTS'
  /** At the client: nobody listens, or the connection has ended before the answer. */
  | 'ERR_CONTROL_CONNECTION';

/** What goes wrong on the control socket itself. What a command does throws its own errors, whose `code` is passed on. */
export class ControlError extends Error {
  override readonly name = 'ControlError';
  readonly code: ControlErrorCode;
  constructor(code: ControlErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
