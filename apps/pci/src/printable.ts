/** Text from sysfs, or from a device, made safe for a terminal. */

/** Control characters (C0, DEL, C1, and those that turn the direction of text) become escapes; what is longer than `max` is cut. */
export function printable(text: string, max = 4096): string {
  const shown = text.length > max ? `${text.slice(0, max)}…` : text;
  return shown.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
