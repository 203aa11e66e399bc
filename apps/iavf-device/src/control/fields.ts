import { ControlError } from './errors.ts';
import { MAX_LIST } from './limits.ts';

/** texts: one text, or an array of them. */
export interface Field {
  readonly kind: 'text' | 'texts' | 'flag';
  readonly optional?: boolean;
  readonly help: string;
}
export type FieldSpecs = Readonly<Record<string, Field>>;

/** The fields of a request, checked against what its command takes. CLIENT: nothing is known of `request` but that it was JSON. */
export class Fields {
  readonly #values = new Map<string, string | readonly string[] | boolean>();

  constructor(command: string, specs: FieldSpecs, request: object) {
    for (const [name, value] of Object.entries(request)) {
      if (name === 'command' || name === 'id') continue;
      if (!Object.hasOwn(specs, name)) throw new ControlError('ERR_CONTROL_FIELD', `${command} takes no field '${name.slice(0, 40)}'; it takes ${Object.keys(specs).join(', ') || 'none'}`);
      this.#values.set(name, checked(command, name, specs[name]!.kind, value));
    }
    for (const [name, { optional, help }] of Object.entries(specs)) {
      if (optional !== true && !this.#values.has(name)) throw new ControlError('ERR_CONTROL_FIELD', `${command} needs the field '${name}': ${help}`);
    }
  }

  text(name: string): string {
    return this.#values.get(name) as string;
  }

  optionalText(name: string): string | undefined {
    return this.#values.get(name) as string | undefined;
  }

  texts(name: string): readonly string[] {
    return (this.#values.get(name) as readonly string[] | undefined) ?? [];
  }

  flag(name: string): boolean {
    return this.#values.get(name) === true;
  }
}

function checked(command: string, name: string, kind: Field['kind'], value: unknown): string | readonly string[] | boolean {
  const wrong = (wanted: string): ControlError => new ControlError('ERR_CONTROL_FIELD', `${command}: '${name}' must be ${wanted}`);
  if (kind === 'flag') {
    if (typeof value !== 'boolean') throw wrong('true or false');
    return value;
  }
  if (typeof value === 'string') return kind === 'text' ? value : [value];
  if (kind === 'text') throw wrong('a text');
  if (!Array.isArray(value) || value.length > MAX_LIST || !value.every((each) => typeof each === 'string')) throw wrong(`a text, or an array of at most ${MAX_LIST} texts`);
  return value;
}
