import { type INotebookTracker, NotebookActions } from '@jupyterlab/notebook';

import { withCode } from './source.js';

/** Put code into the active cell of the current notebook, at the cursor; below it where it is not a code cell. Returns what was done. */
export function insertCode(notebooks: INotebookTracker | null, code: string): string {
  const panel = notebooks?.currentWidget;
  if (!panel) {
    return 'Open a notebook first: the code goes into its active cell.';
  }
  const notebook = panel.content;
  if (notebook.activeCell?.model.type !== 'code') {
    NotebookActions.insertBelow(notebook);
  }
  const cell = notebook.activeCell;
  if (!cell) {
    return `${panel.title.label} has no active cell.`;
  }
  const { sharedModel } = cell.model;
  const editor = cell.editor;
  const offset = editor ? editor.getOffsetAt(editor.getCursorPosition()) : sharedModel.source.length;
  const { source, end } = withCode(sharedModel.source, offset, code);
  sharedModel.setSource(source);
  const position = editor?.getPositionAt(end);
  if (editor && position) {
    editor.setCursorPosition(position);
  }
  return `Inserted into cell ${notebook.activeCellIndex + 1} of ${panel.title.label}.`;
}
