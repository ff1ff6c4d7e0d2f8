import { Widget } from '@lumino/widgets';

import { h } from './dom.js';
import type { Servers } from './servers.js';
import { statusWords } from './words.js';

/** The item in the status bar; a click opens the panel. */
export class StatusItem extends Widget {
  constructor(
    private readonly _servers: Servers,
    open: () => void
  ) {
    super();
    this.addClass('q3-status');
    this._button = h('button', { type: 'button', class: 'jp-StatusBar-TextItem', title: 'Qwen3 servers', onclick: open });
    this.node.append(this._button);
    _servers.changed.connect(() => {
      this._draw();
    });
    this._draw();
  }

  private _draw(): void {
    this._button.textContent = this._servers.problem ? 'Qwen3: no answer' : statusWords(this._servers.now);
    this._button.title = this._servers.problem || 'Qwen3 servers';
  }

  private readonly _button: HTMLButtonElement;
}
