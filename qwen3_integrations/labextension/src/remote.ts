import { Poll } from '@lumino/polling';

import { type Api, Closed } from './api.js';
import { Traits } from './traits.js';

/** Milliseconds between two looks at a panel: during a start, and otherwise. */
const STARTING_MS = 500;
const CALM_MS = 2000;

/** A panel's traits in the Jupyter server's process. Actions are sent there; changes are read from there. */
export class RemoteTraits extends Traits {
  private constructor(
    private readonly _api: Api,
    readonly panel: string,
    traits: Record<string, unknown>,
    private _revision: number,
    private readonly _lost: (error: unknown) => void
  ) {
    super(traits);
    this._poll = new Poll({
      auto: false,
      factory: () => this._read(),
      frequency: { interval: CALM_MS, backoff: true, max: 15_000 },
      standby: 'when-hidden',
      name: `qwen3-integrations:panel-${panel}`
    });
    void this._poll.start();
  }

  /** Read a panel. `lost` is called when it is closed elsewhere, or an action fails. */
  static async open(api: Api, panel: string, lost: (error: unknown) => void): Promise<RemoteTraits> {
    const { traits, revision } = await api.changes(panel, 0);
    return new RemoteTraits(api, panel, traits, revision, lost);
  }

  override send(content: Record<string, unknown>): void {
    void this._send(content);
  }

  dispose(): void {
    this._poll.dispose();
  }

  private async _send(content: Record<string, unknown>): Promise<void> {
    try {
      const replies = await this._api.act(this.panel, content);
      for (const reply of replies) {
        this.fire('msg:custom', reply);
      }
      if (!this._poll.isDisposed) {
        await this._poll.refresh();
      }
    } catch (error) {
      if (!this._poll.isDisposed) {
        this._lost(error);
      }
    }
  }

  private async _read(): Promise<void> {
    try {
      const { traits, revision } = await this._api.changes(this.panel, this._revision);
      if (this._poll.isDisposed) {
        return;
      }
      this._revision = revision;
      this.set(traits);
    } catch (error) {
      if (error instanceof Closed && !this._poll.isDisposed) {
        this._lost(error);
        return;
      }
      throw error;
    }
    const calm = ['stopped', 'failed', 'ready'].includes(String(this.get('state'))) && !this.get('busy');
    const interval = calm ? CALM_MS : STARTING_MS;
    if (interval !== this._poll.frequency.interval) {
      this._poll.frequency = { ...this._poll.frequency, interval };
    }
  }

  private readonly _poll: Poll;
}
