import { Dialog, showDialog } from '@jupyterlab/apputils';
import type { Message } from '@lumino/messaging';
import { Widget } from '@lumino/widgets';

import { type Api, type IServer, type IStart, problemOf, type Task } from './api.js';
import { card, device, keyOf } from './cards.js';
import { h } from './dom.js';
import panel from './generated/panel.js';
import { icon } from './icon.js';
import { RemoteTraits } from './remote.js';
import type { Servers } from './servers.js';
import type { IWidgetModule } from './traits.js';

/** The side panel: the servers of the machine, and one of them in detail, by the same module as the notebook's panel. */
export class SidePanel extends Widget {
  /**
   * @param _api The server extension.
   * @param _servers The list.
   * @param _insert Puts code for a server into the active cell, and says what it did.
   * @param _kernel The kernelspec of the active notebook.
   */
  constructor(
    private readonly _api: Api,
    private readonly _servers: Servers,
    private readonly _insert: (server: IServer, client: string) => Promise<string>,
    private readonly _kernel: () => string | undefined
  ) {
    super();
    this.id = 'qwen3-servers';
    this.addClass('q3-side');
    this.title.icon = icon;
    this.title.caption = 'Qwen3 servers';
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', 'Qwen3 servers');
    this.node.setAttribute('data-lm-suppress-shortcuts', 'true');
    const fresh = h('button', { type: 'button', class: 'q3-main', onclick: () => void this.create() }, 'New server');
    this._back = h('button', { type: 'button', onclick: () => { this.showList(); } }, '← Servers');
    const title = h('h2', {}, 'Qwen3 servers');
    this._list = h('div', { class: 'q3 q3-list' }, h('div', { class: 'q3-row' }, title, h('span', { class: 'q3-grow' }), fresh), this._problem, this._remote, this._cards, this._empty, this._devices);
    this._host = h('div', { class: 'q3-host' });
    this._detail = h('div', { class: 'q3-one' }, h('div', { class: 'q3 q3-top' }, this._back), this._host);
    this.node.append(this._list, this._detail, h('div', { class: 'q3 q3-foot' }, this._said));
    this._detail.hidden = true;
    this.node.ownerDocument.addEventListener('focusin', this._follow);
    this._detail.addEventListener('keydown', event => {
      if (event.key === 'Escape' && !event.defaultPrevented && !(event.target instanceof HTMLSelectElement)) {
        this.showList();
      }
    });
    _servers.changed.connect(() => {
      this._draw();
    });
    this._draw();
  }

  /** Show the form for a new server. */
  async create(task: Task = 'embed'): Promise<void> {
    const kernel = this._kernel();
    await this._show(() => this._api.open(kernel === undefined ? { task } : { task, kernel }));
  }

  /** Show a server, or a start. */
  async open(one: IServer | IStart): Promise<void> {
    await this._show(() => (one.panel === null ? this._api.open({ server: (one as IServer).name }) : Promise.resolve(one.panel)));
  }

  /** Show the list again; what runs or starts continues. */
  showList(): void {
    this._turn += 1;
    this._end();
    this._list.hidden = false;
    this._detail.hidden = true;
    void this._servers.refresh();
    if (this.isVisible) {
      this._list.querySelector('button')?.focus();
    }
  }

  override dispose(): void {
    this._end();
    this.node.ownerDocument.removeEventListener('focusin', this._follow);
    super.dispose();
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    void this._servers.refresh();
  }

  protected override onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    [...this.node.querySelectorAll('button')].find(button => button.offsetParent !== null)?.focus();
  }

  private async _show(find: () => Promise<string>): Promise<void> {
    const turn = (this._turn += 1);
    this._say('');
    try {
      const name = await find();
      const traits = await RemoteTraits.open(this._api, name, error => { this._lose(error, turn); });
      if (turn !== this._turn || this.isDisposed) {
        traits.dispose();
        return;
      }
      this._end();
      this._drawPanel(traits);
    } catch (error) {
      this._say(problemOf(error));
    }
  }

  private _drawPanel(traits: RemoteTraits): void {
    const model = {
      get: (name: string) => traits.get(name),
      set: (names: string | Record<string, unknown>, value?: unknown) => { traits.set(names, value); },
      on: (event: string, call: (...values: unknown[]) => void) => { traits.on(event, call); },
      off: (event: string, call?: (...values: unknown[]) => void) => { traits.off(event, call); },
      save_changes: () => undefined,
      send: (content: Record<string, unknown>) => { this._act(traits, content); }
    };
    const host = h('div', {});
    this._host.replaceChildren(host);
    this._list.hidden = true;
    this._detail.hidden = false;
    const end = (panel as unknown as IWidgetModule).render({ model, el: host });
    this._end = () => {
      this._end = nothing;
      end?.();
      traits.dispose();
      this._host.replaceChildren();
      if (traits.get('state') === 'stopped') {
        void this._api.close(traits.panel).catch(nothing); // a form that nobody needs any more
      }
    };
    this._back.focus();
    traits.on('change:state', () => {
      requestAnimationFrame(() => {
        // The button that had the focus may be gone now.
        if (this._within && this.node.ownerDocument.activeElement === this.node.ownerDocument.body && !this._detail.hidden) {
          this._back.focus();
        }
      });
    });
  }

  private _act(traits: RemoteTraits, content: Record<string, unknown>): void {
    if (content['do'] === 'detach') {
      this.showList();
    } else if (content['do'] === 'attach') {
      void this._show(() => this._api.open({ server: String(content['name']) }));
    } else {
      traits.send(content);
    }
  }

  private _lose(error: unknown, turn: number): void {
    if (turn === this._turn) {
      this.showList();
      this._say(problemOf(error));
    }
  }

  private _draw(): void {
    const { servers, starts, devices, remote_kernels: remote } = this._servers.now;
    const focused = this.node.ownerDocument.activeElement?.getAttribute('data-key');
    const actions = {
      open: (one: IServer | IStart) => void this.open(one),
      insert: (one: IServer, client: string) => void this._insertCode(one, client),
      stop: (one: IServer) => void this._stop(one),
      dismiss: (one: IStart) => void this._do(() => this._api.close(one.panel))
    };
    this._cards.replaceChildren(...[...starts, ...servers].map(one => card(one, actions)));
    this._cards.hidden = servers.length + starts.length === 0;
    this._empty.hidden = !this._cards.hidden || Boolean(this._servers.problem) || !this._servers.known;
    this._devices.replaceChildren(...devices.map(device));
    this._devices.hidden = devices.length === 0;
    this._problem.textContent = this._servers.problem;
    this._problem.hidden = !this._servers.problem;
    this._remote.hidden = !remote;
    this._remote.textContent = !remote ? '' : `The kernels run elsewhere (${remote}). Servers started here run on the machine of Jupyter Server: a kernel reaches them only where both are one machine, and inserted code that reads the key does not work there.`;
    if (focused) {
      [...this._cards.querySelectorAll<HTMLElement>('[data-key]')].find(one => one.getAttribute('data-key') === focused)?.focus();
    }
  }

  private async _insertCode(server: IServer, client: string): Promise<void> {
    try {
      this._say(await this._insert(server, client));
    } catch (error) {
      this._say(problemOf(error));
    }
  }

  private async _stop(server: IServer): Promise<void> {
    if (!server.owned) {
      const answer = await showDialog({
        title: `Stop ${server.name}?`,
        body: `Process ${server.owner_pid} started it, and other notebooks or programs may use it.`,
        buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: 'Stop' })]
      });
      if (!answer.button.accept) {
        return;
      }
    }
    this._say(`Stopping ${keyOf(server)}…`);
    await this._do(() => this._api.stop(server.name), `${server.name} is stopping`);
  }

  private async _do(what: () => Promise<unknown>, then = ''): Promise<void> {
    try {
      await what();
      this._say(then);
      await this._servers.refresh();
    } catch (error) {
      this._say(problemOf(error));
    }
  }

  private _say(words: string): void {
    this._said.textContent = words;
  }

  private readonly _follow = (event: Event): void => {
    this._within = this._detail.contains(event.target as Node);
  };

  private _turn = 0;
  private _within = false;
  private _end: () => void = nothing;
  private readonly _list: HTMLElement;
  private readonly _detail: HTMLElement;
  private readonly _host: HTMLElement;
  private readonly _back: HTMLElement;
  private readonly _problem = h('div', { class: 'q3-error', role: 'alert', hidden: true });
  private readonly _remote = h('p', { class: 'q3-warning', role: 'note', hidden: true });
  private readonly _cards = h('ul', { class: 'q3-cards', 'aria-label': 'Servers', hidden: true });
  private readonly _empty = h('p', { class: 'q3-soft', hidden: true }, 'No server runs on this machine. Start one with New server.');
  private readonly _devices = h('ul', { class: 'q3-devices', 'aria-label': 'Devices', hidden: true });
  private readonly _said = h('div', { role: 'status', class: 'q3-soft' });
}

function nothing(): void {
  // No panel is drawn.
}
