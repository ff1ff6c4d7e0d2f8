import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { Widget } from '@lumino/widgets';

import { DEFAULTS } from './generated/defaults.js';
import inspector from './generated/inspector.js';
import { MIME, type IRanking, missing, readRanking, traitsOf, Unreadable } from './ranking.js';
import { type IWidgetModule, Traits } from './traits.js';

/** A saved ranking as the inspector shows it, without a kernel: by the same module as the widget and the exported page. */
export class SavedRanking extends Widget implements IRenderMime.IRenderer {
  constructor() {
    super();
    this.addClass('q3-saved');
  }

  /** Show a MIME bundle's or a file's ranking, or say why it can't be shown. */
  renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    this.showValue(model.data[MIME]);
    return Promise.resolve();
  }

  /** Show a ranking. */
  showValue(value: unknown): void {
    this._end();
    let ranking: IRanking;
    try {
      ranking = readRanking(typeof value === 'string' ? JSON.parse(value) : value);
    } catch (error) {
      if (!(error instanceof Unreadable) && !(error instanceof SyntaxError)) {
        throw error;
      }
      this.node.replaceChildren(paragraph('q3-problem', `This ranking can't be shown. ${error.message}`, 'alert'));
      return;
    }
    const host = document.createElement('div');
    this.node.replaceChildren(host);
    const hidden = missing(ranking);
    if (hidden > 0) {
      const words = `The notebook has the best ${ranking.hits.length.toLocaleString('en')} documents; ${hidden.toLocaleString('en')} more were ranked.`;
      this.node.prepend(paragraph('q3-note', words, 'note'));
    }
    const end = (inspector as unknown as IWidgetModule).render({ model: new Traits(traitsOf(ranking, DEFAULTS)), el: host });
    this._end = end ?? nothing;
  }


  override dispose(): void {
    this._end();
    this._end = nothing;
    super.dispose();
  }

  private _end: () => void = nothing;
}

function nothing(): void {
  // No view is drawn.
}

function paragraph(name: string, words: string, role: string): HTMLElement {
  const made = document.createElement('p');
  made.className = name;
  made.setAttribute('role', role);
  made.textContent = words;
  return made;
}
