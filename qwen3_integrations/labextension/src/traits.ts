/** The part of an anywidget model that the widgets' modules use: named traits, messages to Python, and notices of changes. */
export interface ITraits {
  get(name: string): unknown;
  set(names: string | Record<string, unknown>, value?: unknown): void;
  on(event: string, call: (...values: unknown[]) => void): void;
  off(event: string, call?: (...values: unknown[]) => void): void;
  save_changes(): void;
  send(content: Record<string, unknown>): void;
}

/** A widget's module. `render` draws into `el` and returns a function that ends the view. */
export interface IWidgetModule {
  render(context: { model: ITraits; el: HTMLElement }): (() => void) | undefined;
}

type Call = (...values: unknown[]) => void;

/** Traits that live in the page. A subclass sends changes and messages somewhere. */
export class Traits implements ITraits {
  constructor(private readonly _values: Record<string, unknown>) {}

  get(name: string): unknown {
    return this._values[name];
  }

  set(names: string | Record<string, unknown>, value?: unknown): void {
    const changes = typeof names === 'string' ? { [names]: value } : names;
    const changed = Object.keys(changes).filter(name => this._values[name] !== changes[name]);
    Object.assign(this._values, changes);
    for (const name of changed) {
      this.fire(`change:${name}`);
    }
    if (changed.length) {
      this.fire('change');
    }
  }

  on(event: string, call: Call): void {
    for (const name of event.split(' ')) {
      this._calls.set(name, [...(this._calls.get(name) ?? []), call]);
    }
  }

  off(event: string, call?: Call): void {
    for (const name of event.split(' ')) {
      this._calls.set(
        name,
        (this._calls.get(name) ?? []).filter(one => call !== undefined && one !== call)
      );
    }
  }

  save_changes(): void {
    // Nothing is sent: a page without a kernel keeps its traits.
  }

  send(_content: Record<string, unknown>): void {
    // As above.
  }

  protected fire(event: string, ...values: unknown[]): void {
    for (const call of this._calls.get(event) ?? []) {
      call(...values);
    }
  }

  private readonly _calls = new Map<string, Call[]>();
}
