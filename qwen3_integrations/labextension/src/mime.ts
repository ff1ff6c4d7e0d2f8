import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';

import { MIME } from './ranking.js';
import { SavedRanking } from './saved.js';

/** Shows rankings in outputs, also those of untrusted notebooks, and opens `.ranking.json` files. */
const extension: IRenderMime.IExtension = {
  id: 'qwen3-integrations:ranking',
  description: 'Shows saved rankings and .ranking.json files as an inspector, without a kernel.',
  rendererFactory: { safe: true, mimeTypes: [MIME], createRenderer: () => new SavedRanking() },
  // After the widgets' own renderer, which has -10: where it is not replaced by that of `live.ts`, as in Voila, the live widget wins.
  rank: 0,
  dataType: 'string', // so that a file that is no JSON gets the renderer's own message
  fileTypes: [{ name: 'qwen3-ranking', displayName: 'Qwen3 ranking', extensions: ['.ranking.json'], mimeTypes: [MIME], fileFormat: 'text' }],
  documentWidgetFactoryOptions: {
    name: 'Qwen3 ranking',
    primaryFileType: 'qwen3-ranking',
    fileTypes: ['qwen3-ranking', 'json'],
    defaultFor: ['qwen3-ranking']
  }
};

export default extension;
