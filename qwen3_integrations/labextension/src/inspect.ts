import type { ILabShell, JupyterFrontEnd } from '@jupyterlab/application';
import { MainAreaWidget } from '@jupyterlab/apputils';
import { CodeCell } from '@jupyterlab/cells';
import type { NotebookPanel } from '@jupyterlab/notebook';
import type { IOutputModel } from '@jupyterlab/rendermime';
import { UUID } from '@lumino/coreutils';

import { icon } from './icon.js';
import { LiveOrSaved } from './live.js';
import { MIME } from './ranking.js';

/** The ranking in the active cell's outputs, or in the nearest cell above it, or anywhere. */
export function rankingIn(panel: NotebookPanel): IOutputModel | null {
  const { widgets, activeCellIndex } = panel.content;
  const order = [...widgets.slice(0, activeCellIndex + 1).reverse(), ...widgets.slice(activeCellIndex + 1)];
  for (const cell of order) {
    if (cell instanceof CodeCell) {
      const { outputs } = cell.model;
      for (let at = outputs.length - 1; at >= 0; at -= 1) {
        const output = outputs.get(at);
        if (output.data[MIME] !== undefined) {
          return output;
        }
      }
    }
  }
  return null;
}

/** The ranking that was shown last: the next one takes its place, so that the notebook keeps its width. */
let last: MainAreaWidget | null = null;

/** The widget of an output that is shown already. */
const shown = new WeakMap<IOutputModel, MainAreaWidget>();

/** Show a notebook's ranking beside it: in a tab, or in the right side bar of Notebook 7 and of JupyterLab's simple interface. */
export async function inspect(app: JupyterFrontEnd, lab: ILabShell | null, panel: NotebookPanel, output: IOutputModel): Promise<void> {
  const before = shown.get(output);
  if (before && !before.isDisposed) {
    app.shell.activateById(before.id);
    return;
  }
  const content = new LiveOrSaved(panel.content.rendermime);
  content.addClass('q3-tab');
  await content.renderModel(output);
  const widget = new MainAreaWidget({ content });
  const { query } = output.data[MIME] as { query?: string };
  widget.id = `qwen3-ranking-${UUID.uuid4()}`;
  widget.title.icon = icon;
  widget.title.label = `Ranking: ${(query ?? '').slice(0, 40)}`;
  widget.title.caption = query ?? '';
  widget.title.closable = true;
  if (lab?.mode === 'multiple-document') {
    const hasPlace = [...lab.widgets('main')].some(one => one === last);
    lab.add(widget, 'main', hasPlace && last ? { mode: 'tab-after', ref: last.id } : { mode: 'split-right', ref: panel.id });
  } else {
    last?.dispose();
    app.shell.add(widget, 'right');
    (app.shell as { expandRight?: (id?: string) => void }).expandRight?.(widget.id);
  }
  last = widget;
  shown.set(output, widget);
  app.shell.activateById(widget.id);
}
