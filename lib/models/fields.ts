import { EyrieError } from '../errors.ts';

/** Typed access to the fields of a parsed config.json, with errors that name file and field. */
export class Fields {
  readonly where: string;
  readonly #o: Record<string, unknown>;

  constructor(where: string, object: Record<string, unknown>) {
    this.where = where;
    this.#o = object;
  }

  raw(key: string): unknown {
    return this.#o[key];
  }

  #fail(key: string, expected: string): never {
    throw new EyrieError(
      'EYRIE_CONFIG',
      `${this.where}: "${key}" must be ${expected}, got ${JSON.stringify(this.#o[key])}`,
    );
  }

  /** A finite number; `fallback` when absent or null; required without one. */
  number(key: string, fallback?: number): number {
    const v = this.#o[key];
    if (v === undefined || v === null) {
      if (fallback !== undefined) return fallback;
      throw new EyrieError('EYRIE_CONFIG', `${this.where}: "${key}" is missing`);
    }
    if (typeof v !== 'number' || !Number.isFinite(v)) this.#fail(key, 'a number');
    return v;
  }

  boolean(key: string, fallback: boolean): boolean {
    const v = this.#o[key];
    if (v === undefined || v === null) return fallback;
    if (typeof v !== 'boolean') this.#fail(key, 'true or false');
    return v;
  }

  string(key: string): string | undefined {
    const v = this.#o[key];
    if (v === undefined || v === null) return undefined;
    if (typeof v !== 'string') this.#fail(key, 'a string');
    return v;
  }

  object(key: string): Fields | undefined {
    const v = this.#o[key];
    if (v === undefined || v === null) return undefined;
    if (typeof v !== 'object' || Array.isArray(v)) this.#fail(key, 'an object');
    return new Fields(`${this.where}: ${key}`, v as Record<string, unknown>);
  }

  array(key: string): unknown[] | undefined {
    const v = this.#o[key];
    if (v === undefined || v === null) return undefined;
    if (!Array.isArray(v)) this.#fail(key, 'an array');
    return v;
  }

  /** An id or a list of ids. */
  ids(key: string): number[] {
    const v = this.#o[key];
    if (v === undefined || v === null) return [];
    const list = Array.isArray(v) ? v : [v];
    if (!list.every((x) => Number.isInteger(x))) this.#fail(key, 'an id or a list of ids');
    return list as number[];
  }
}
