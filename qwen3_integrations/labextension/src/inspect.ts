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

/** Show a notebook's ranking in a tab beside it (in Notebook 7: in the right side bar). */
export async function inspect(app: JupyterFrontEnd, lab: ILabShell | null, panel: NotebookPanel, output: IOutputModel): Promise<void> {
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
  if (lab) {
    lab.add(widget, 'main', { mode: 'split-right', ref: panel.id });
    lab.activateById(widget.id);
  } else {
    app.shell.add(widget, 'right');
    (app.shell as { expandRight?: (id: string) => void }).expandRight?.(widget.id);
    app.shell.activateById(widget.id);
  }
}
