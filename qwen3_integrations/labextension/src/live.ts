import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import type { NotebookPanel } from '@jupyterlab/notebook';
import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { PanelLayout, Widget } from '@lumino/widgets';

import { MIME } from './ranking.js';
import { SavedRanking } from './saved.js';

const VIEW = 'application/vnd.jupyter.widget-view+json';

/** Marks the output of a widget of this package whose saved form is its HTML. See `qwen3_integrations/notebook/widget.py`. */
const SAVED = 'application/vnd.qwen3.widget+json';
const HTML = 'text/html';

/** What this module uses of the widgets' manager, `@jupyter-widgets/base`. */
interface IWidgetManager {
  has_model(id: string): boolean;
  restored?: { connect(slot: () => void): void; disconnect(slot: () => void): void };
}

/** A renderer of `@jupyter-widgets/jupyterlab-manager`; it gets its manager when a kernel is there. */
interface IWidgetRenderer extends IRenderMime.IRenderer {
  _manager?: { promise: Promise<IWidgetManager> };
}

const wait = (ms: number): Promise<undefined> => new Promise(done => setTimeout(() => { done(undefined); }, ms));

/** The live widget while its kernel has it; otherwise what was saved, by the renderer that `_saved` makes. */
export class LiveOrSaved extends Widget implements IRenderMime.IRenderer {
  constructor(
    private readonly _registry: IRenderMimeRegistry,
    private readonly _saved: () => IRenderMime.IRenderer = () => new SavedRanking()
  ) {
    super();
    this.layout = new PanelLayout();
    this.addClass('q3-either');
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    this._turn += 1;
    await this._showSaved(model);
    const id = (model.data[VIEW] as { model_id?: string } | undefined)?.model_id;
    if (id) {
      void this._watch(model, id, this._turn);
    }
  }

  override dispose(): void {
    this._leave();
    super.dispose();
  }

  private async _showSaved(model: IRenderMime.IMimeModel): Promise<void> {
    const saved = this._saved();
    await saved.renderModel(model);
    this._replace(saved);
  }

  private async _watch(model: IRenderMime.IMimeModel, id: string, turn: number): Promise<void> {
    const found = await this._manager(turn);
    if (!found) {
      return;
    }
    const { live, manager } = found;
    const look = (): void => {
      if (this._live === null && manager.has_model(id)) {
        void this._showLive(live, model);
      }
    };
    this._leave();
    manager.restored?.connect(look);
    this._leave = () => manager.restored?.disconnect(look);
    look();
  }

  /** The widgets' manager comes when a kernel is there, and hands itself only to renderers that are made afterwards: so ask again. */
  private async _manager(turn: number): Promise<{ live: IWidgetRenderer; manager: IWidgetManager } | null> {
    for (const pause of [0, 500, 1000, 2000, 4000, 8000]) {
      await wait(pause);
      if (!this._isCurrent(turn)) {
        return null;
      }
      if (this._registry.getFactory(VIEW)) {
        const live = this._registry.createRenderer(VIEW) as IWidgetRenderer;
        const manager = await Promise.race([live._manager?.promise, wait(1000)]);
        if (manager && this._isCurrent(turn)) {
          return { live, manager };
        }
        live.dispose();
      }
    }
    return null;
  }

  private _isCurrent(turn: number): boolean {
    return turn === this._turn && !this.isDisposed;
  }

  private async _showLive(live: IWidgetRenderer, model: IRenderMime.IMimeModel): Promise<void> {
    this._live = live;
    await live.renderModel(model);
    if (this.isDisposed) {
      return;
    }
    this._replace(live);
    // A widget that Python closes leaves the page: what was saved comes back.
    const closed = new MutationObserver(() => {
      if (live.isHidden && this._live === live) {
        closed.disconnect();
        this._live = null;
        void this._showSaved(model);
      }
    });
    closed.observe(live.node, { attributes: true, attributeFilter: ['class'] });
    live.disposed.connect(() => {
      closed.disconnect();
    });
  }

  private _replace(widget: Widget): void {
    const layout = this.layout as PanelLayout;
    const before = [...layout.widgets];
    layout.addWidget(widget);
    for (const one of before) {
      one.dispose();
    }
  }

  private _live: IWidgetRenderer | null = null;
  private _turn = 0;
  private _leave: () => void = () => undefined;
}

/** Before the widgets' own renderer, which has -10 and shows an error where the kernel does not have the widget. */
const RANK = -20;

/** Each notebook has its own widgets' manager, so the renderer is added to each notebook. */
export const live: JupyterFrontEndPlugin<void> = {
  id: 'qwen3-integrations:live',
  description: 'Shows the live widget in an output while the kernel has it, and its saved form otherwise.',
  autoStart: true,
  activate: (app: JupyterFrontEnd) => {
    // Before the first output is drawn; a notebook tracker tells of a notebook only afterwards.
    app.docRegistry.addWidgetExtension('Notebook', {
      createNew: (panel: NotebookPanel) => {
        const { rendermime } = panel.content;
        const html = (): IRenderMime.IRenderer => rendermime.createRenderer(HTML);
        rendermime.addFactory({ safe: true, mimeTypes: [MIME], createRenderer: () => new LiveOrSaved(rendermime) }, RANK);
        rendermime.addFactory({ safe: true, mimeTypes: [SAVED], createRenderer: () => new LiveOrSaved(rendermime, html) }, RANK);
      }
    });
  }
};
