import { Poll } from '@lumino/polling';
import { type ISignal, Signal } from '@lumino/signaling';

import { type Api, type IOverview, problemOf } from './api.js';

const NOTHING: IOverview = { servers: [], starts: [], devices: [], problem: '', remote_kernels: '' };

/** The servers and devices of the machine on which Jupyter Server runs, looked at every few seconds. */
export class Servers {
  constructor(private readonly _api: Api) {
    this._poll = new Poll({
      auto: false,
      factory: () => this._read(),
      frequency: { interval: 3000, backoff: true, max: 30_000 },
      standby: 'when-hidden',
      name: 'qwen3-integrations:servers'
    });
    void this._poll.start();
  }

  get now(): IOverview {
    return this._now;
  }

  /** Why there is no list; empty if there is one. */
  get problem(): string {
    return this._problem || this._now.problem;
  }

  /** Whether the server extension has answered once. */
  get known(): boolean {
    return this._known;
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  set seconds(seconds: number) {
    this._poll.frequency = { ...this._poll.frequency, interval: 1000 * seconds };
  }

  refresh(): Promise<void> {
    return this._poll.refresh();
  }

  private async _read(): Promise<void> {
    try {
      this._now = await this._api.overview();
      this._known = true;
      this._problem = '';
    } catch (error) {
      this._now = { ...NOTHING };
      this._problem = problemOf(error);
      throw error;
    } finally {
      this._changed.emit();
    }
  }

  private _now: IOverview = NOTHING;
  private _problem = '';
  private _known = false;
  private readonly _changed = new Signal<this, void>(this);
  private readonly _poll: Poll;
}
