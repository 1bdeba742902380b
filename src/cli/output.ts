import Table from 'cli-table3';
import type { Colors, Screen } from './terminal.ts';
import { colorsOf } from './terminal.ts';

/** One column of a table. */
export interface Column<T> {
  readonly head: string;
  readonly value: (item: T) => string | number;
  /** Figures stand at the right. */
  readonly right?: boolean;
}

/** A column of figures. */
export function figures<T>(head: string, value: (item: T) => string | number): Column<T> {
  return { head, value, right: true };
}

/** Writes what a command has found: tables and text for people, JSON for programs. */
export class Output {
  private readonly stream: Screen;
  /** Whether a program reads it. */
  readonly json: boolean;
  readonly colors: Colors;

  constructor(stream: Screen, json: boolean) {
    this.stream = stream;
    this.json = json;
    this.colors = colorsOf(stream);
  }

  /** Many of a kind: a table, or one JSON array. `none` is what people read instead of an empty table. */
  list<T extends object>(items: readonly T[], columns: readonly Column<T>[], none: string): void {
    if (this.json) this.document(items);
    else if (items.length === 0) this.say(none);
    else this.say(this.table(items, columns));
  }

  /** One thing: a line for each of its facts, or one JSON object. Facts that are empty are left out. */
  item(value: object, facts: Readonly<Record<string, string | number | undefined>>): void {
    if (this.json) return this.document(value);
    const rows = Object.entries(facts).filter(([, fact]) => fact !== undefined && fact !== '');
    const width = Math.max(...rows.map(([name]) => name.length));
    for (const [name, fact] of rows)
      this.say(`${this.colors.dim(name.padEnd(width))}  ${printable(String(fact))}`);
  }

  /** A table without lines, so that it can be cut, searched and pasted. */
  table<T>(items: readonly T[], columns: readonly Column<T>[]): string {
    const grid = new Table({
      head: columns.map(({ head }) => this.colors.dim(head)),
      colAligns: columns.map(({ right }) => (right === true ? 'right' : 'left')),
      chars: NO_LINES,
      style: { 'padding-left': 0, 'padding-right': 2, head: [], border: [], compact: true },
    });
    for (const item of items) {
      grid.push(columns.map(({ value }) => printable(String(value(item))).replaceAll('\n', ' ')));
    }
    const lines = grid.toString().split('\n');
    return lines.map((line) => line.trimEnd()).join('\n');
  }

  /** One of an unknown number of events: a line of text, or a line of JSON. */
  event(value: object, text: string): void {
    this.say(this.json ? JSON.stringify(value) : text);
  }

  /** One JSON document. */
  document(value: object): void {
    this.say(JSON.stringify(value, undefined, 2));
  }

  /** Text, with a line feed. */
  say(text: string): void {
    this.stream.write(`${text}\n`);
  }

  /** Bytes as they are. */
  raw(bytes: Uint8Array): void {
    this.stream.write(bytes);
  }
}

const NO_LINES = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '',
} as const;

/** What others have written must not command the terminal. */
function printable(text: string): string {
  // eslint-disable-next-line no-control-regex
  return text.replaceAll(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]+/g, ' ');
}
