import { LabIcon } from '@jupyterlab/ui-components';

/** Bars of falling length: a ranking. */
export const icon = new LabIcon({
  name: 'qwen3-integrations:icon',
  svgstr:
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" width="16"><path class="jp-icon3 jp-icon-selectable" fill="#616161" ' +
    'd="M2 3h12v2H2zm0 4h8v2H2zm0 4h5v2H2z"/></svg>'
});
