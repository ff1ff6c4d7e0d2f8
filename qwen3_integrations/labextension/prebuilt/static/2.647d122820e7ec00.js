"use strict";(self.rspackChunkqwen3_integrations=self.rspackChunkqwen3_integrations||[]).push([[2],{28(e,q,r){var o=r(29),t=r.n(o),n=r(30),a=r.n(n),i=r(31),p=r(32),s=a()(t());s.i(i.A),s.i(p.A),s.push([e.id,`/* a saved ranking: an output of a cell, a file, or a tab */
.q3-saved { overflow: auto; }
.q3-saved > .q3-problem { padding: 8px 12px; color: var(--jp-error-color1); }
.jp-MimeDocument .q3-saved { padding: 8px; }
.q3-either > .lm-Widget { min-width: 0; }

/* a ranking in a tab */
.q3-tab { overflow: auto; padding: 8px; background: var(--jp-layout-color1); }

/* the side panel */
.q3-side { display: flex; flex-direction: column; min-width: 260px !important; overflow: auto; background: var(--jp-layout-color1); color: var(--jp-ui-font-color1); }
.q3-side [hidden] { display: none !important; }
.q3-side .q3 { border: 0; border-radius: 0; background: transparent; padding: 8px 12px; }
.q3-side .q3-panel { padding: 4px 12px 12px; }
.q3-side .q3-foot { padding-top: 0; }
.q3-side h2 { font-size: 14px; font-weight: 600; margin: 0; }
.q3-side .q3-list { display: flex; flex-direction: column; gap: 12px; }
.q3-side ul { list-style: none; margin: 0; padding: 0; }
.q3-side .q3-list p { margin: 0; }
.q3-side .q3-warning { border-left: 3px solid var(--q3-warn); padding: 2px 8px; }
.q3-side .q3-cards { display: flex; flex-direction: column; gap: 8px; }
.q3-side .q3-card { display: flex; flex-direction: column; gap: 4px; border: 1px solid var(--q3-line); border-radius: 4px; padding: 8px; }
.q3-side .q3-card button { padding: 2px 8px; font-size: 12px; }
.q3-side .q3-card .q3-row { gap: 4px; }
.q3-side .q3-state { display: flex; align-items: center; gap: 8px; }
.q3-side .q3-name, .q3-side .q3-address { overflow-wrap: anywhere; }
.q3-side .q3-card .q3-address { font: 12px/1.4 var(--q3-mono); }
.q3-side .q3-facts { display: flex; flex-wrap: wrap; gap: 0 12px; font-size: 12px; }
.q3-side .q3-clip { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; font-size: 12px; }
.q3-side .q3-list .q3-light { flex: none; width: 10px; height: 10px; border-radius: 50%; border: 2px solid var(--q3-ink-soft); }
.q3-side .q3-list .q3-light[data-kind='good'] { background: var(--q3-good); border-color: var(--q3-good); }
.q3-side .q3-list .q3-light[data-kind='bad'] { background: var(--q3-bad); border-color: var(--q3-bad); border-radius: 2px; }
.q3-side .q3-list .q3-light[data-kind='busy'] { border-color: var(--q3-accent); }
.q3-side .q3-list .q3-bar { height: 4px; border-radius: 2px; background: var(--q3-line); overflow: hidden; }
.q3-side .q3-list .q3-bar > div { height: 100%; background: var(--q3-accent); transition: width 0.3s; }
.q3-side .q3-list .q3-bar.q3-unknown > div { width: 25%; }
.q3-side .q3-list .q3-lifted { border-left: 3px solid var(--q3-bad); padding: 4px 8px; }
.q3-side .q3-list code { font: 12px/1.4 var(--q3-mono); background: none; color: inherit; padding: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.q3-side .q3-devices { display: flex; flex-direction: column; gap: 8px; font-size: 12px; }
.q3-side .q3-curves { height: 24px; margin-top: 4px; border: 1px solid var(--q3-line); border-radius: 3px; overflow: hidden; }
.q3-side .q3-curves svg { display: block; width: 100%; height: 100%; }
.q3-side .q3-curve-memory { fill: none; stroke: var(--q3-accent); stroke-width: 1.5; }
.q3-side .q3-curve-use { fill: none; stroke: var(--q3-ink-soft); stroke-width: 1; stroke-dasharray: 3 2; }
.q3-side .q3-tabs { flex-wrap: wrap; }
.q3-side .q3-panel .q3-address > .q3-row { flex-wrap: wrap; }
.q3-side .q3-panel .q3-address code { flex: 1 1 130px; }
.q3-side .q3-panel .q3-address label { flex-wrap: nowrap; white-space: nowrap; }

/* the status bar */
.q3-status button { font: inherit; font-size: var(--jp-ui-font-size1); color: inherit; background: none; border: 0; padding: 0 4px; height: 100%; cursor: pointer; }
.q3-status button:focus-visible { outline: 2px solid var(--jp-brand-color1); outline-offset: -2px; }
`,""]),r.d(q,{},{A:s})},31(e,q,r){var o=r(29),t=r.n(o),n=r(30),a=(r.n(n))()(t());a.push([e.id,`/* Tokens of all widgets. Colours follow the host: JupyterLab's and Notebook's --jp-*, VS Code's --vscode-*, else light ones.
   The browser's own preference for dark is not asked: a dark browser with a light notebook stays light.

   A host's own style sheet reaches into its outputs: JupyterLab has \`.jp-OutputArea-output dt {float: left; width: 20%}\`. So all elements
   here go back to the browser's styles, and every rule of the widgets repeats \`.q3\`, which makes it stronger than this reset; those of
   one widget have one \`.q3\` more than the shared ones, because a page with several widgets has the shared ones several times. The
   attributes of SVG elements count as styles of the page; they stay. */
.q3.q3, .q3.q3 :where(:not(svg, svg *)) { all: revert; }
.q3.q3 *::before, .q3.q3 *::after { all: revert; }
.q3.q3.q3 {
  --q3-bg: var(--jp-layout-color1, var(--vscode-editor-background, #ffffff));
  --q3-bg-soft: var(--jp-layout-color2, var(--vscode-editorWidget-background, #f5f6f8));
  --q3-ink: var(--jp-ui-font-color0, var(--vscode-editor-foreground, #16181d));
  /* Hosts choose these for marks; small texts need more contrast, so some of the ink is mixed in. */
  --q3-ink-soft: color-mix(in srgb, var(--jp-ui-font-color2, var(--vscode-descriptionForeground, #5b6270)) 88%, var(--q3-ink));
  --q3-line: var(--jp-border-color2, var(--vscode-panel-border, #d9dce2));
  --q3-accent: var(--jp-brand-color1, var(--vscode-focusBorder, #1769c4));
  --q3-good: color-mix(in srgb, var(--jp-success-color1, var(--vscode-testing-iconPassed, #227a3c)) 80%, var(--q3-ink));
  --q3-bad: color-mix(in srgb, var(--jp-error-color1, var(--vscode-errorForeground, #b3261e)) 88%, var(--q3-ink));
  --q3-warn: var(--jp-warn-color1, var(--vscode-editorWarning-foreground, #9a5b00));
  --q3-up: var(--q3-good);
  --q3-down: var(--q3-bad);
  --q3-mark: color-mix(in srgb, var(--q3-accent) 22%, transparent);
  --q3-mono: var(--jp-code-font-family, var(--vscode-editor-font-family, ui-monospace, SFMono-Regular, Menlo, monospace));
  --q3-space: 8px;
  box-sizing: border-box;
  color: var(--q3-ink);
  background: var(--q3-bg);
  font: 13px/1.45 var(--jp-ui-font-family, var(--vscode-font-family, system-ui, sans-serif));
  border: 1px solid var(--q3-line);
  border-radius: 6px;
  padding: calc(1.5 * var(--q3-space));
  container-type: inline-size;
  direction: ltr; letter-spacing: normal; text-align: start; text-indent: 0; text-transform: none; white-space: normal; word-spacing: normal;
}
.q3.q3.q3 *, .q3.q3.q3 *::before, .q3.q3.q3 *::after { box-sizing: border-box; }
.q3.q3.q3 h3 { font-size: 15px; font-weight: 600; line-height: 1.3; margin: 0; }
.q3.q3.q3 .q3-soft { color: var(--q3-ink-soft); }
.q3.q3.q3 .q3-num { font-variant-numeric: tabular-nums; }
.q3.q3.q3 .q3-row { display: flex; flex-wrap: wrap; align-items: center; gap: var(--q3-space); }
.q3.q3.q3 .q3-grow { flex: 1 1 auto; min-width: 0; }
.q3.q3.q3 button, .q3.q3.q3 select, .q3.q3.q3 input, .q3.q3.q3 textarea {
  font: inherit; color: inherit; background: var(--q3-bg); border: 1px solid var(--q3-line); border-radius: 4px; padding: 3px 10px; margin: 0;
}
.q3.q3.q3 input[type="range"] { padding: 0; accent-color: var(--q3-accent); }
.q3.q3.q3 input[type="checkbox"], .q3.q3.q3 input[type="radio"] { accent-color: var(--q3-accent); }
.q3.q3.q3 button { cursor: pointer; background: var(--q3-bg-soft); }
.q3.q3.q3 button:hover:not(:disabled) { border-color: var(--q3-accent); }
.q3.q3.q3 button.q3-main { background: var(--q3-accent); border-color: var(--q3-accent); color: var(--jp-ui-inverse-font-color1, #ffffff); }
.q3.q3.q3 button:disabled { cursor: default; opacity: 0.55; }
.q3.q3.q3 :focus-visible { outline: 2px solid var(--q3-accent); outline-offset: 1px; }
.q3.q3.q3 .q3-error { color: var(--q3-bad); border-left: 3px solid var(--q3-bad); padding: 4px 8px; margin-top: var(--q3-space); white-space: pre-wrap; overflow-wrap: anywhere; }
.q3.q3.q3 .q3-ended { border-left: 3px solid var(--q3-warn); background: color-mix(in srgb, var(--q3-warn) 12%, var(--q3-bg)); border-radius: 0 4px 4px 0; padding: 6px 10px; margin-bottom: var(--q3-space); overflow-wrap: anywhere; }
.q3.q3.q3 .q3-ended:empty { display: none; }
.q3.q3.q3 [inert] { opacity: 0.5; }
.q3.q3.q3 [inert] [inert] { opacity: 1; }
.q3.q3.q3 .q3-error:empty { display: none; }
.q3.q3.q3 .q3-hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.q3.q3.q3 .q3-busy::before { content: ""; display: inline-block; width: 0.8em; height: 0.8em; margin-right: 0.5em; border: 2px solid var(--q3-line); border-top-color: var(--q3-accent); border-radius: 50%; vertical-align: -0.1em; animation: q3-turn 0.9s linear infinite; }
@keyframes q3-turn { to { transform: rotate(360deg); } }
@media (prefers-reduced-motion: reduce) { .q3.q3.q3 .q3-busy::before { animation: none; } }

.q3.q3.q3.q3-inspector { display: flex; flex-direction: column; gap: 12px; }
.q3.q3.q3.q3-inspector .q3-title { font-size: 12px; font-weight: 600; color: var(--q3-ink-soft); }
.q3.q3.q3.q3-inspector .q3-up { color: var(--q3-up); }
.q3.q3.q3.q3-inspector .q3-down { color: var(--q3-down); }
.q3.q3.q3.q3-inspector .q3-same { color: var(--q3-ink-soft); }
.q3.q3.q3.q3-inspector .q3-sign { display: inline-block; width: 1em; font-size: 0.8em; text-align: center; }
.q3.q3.q3.q3-inspector mark { background: var(--q3-mark); color: inherit; border-radius: 2px; padding: 0 1px; margin: 0 -1px; }
.q3.q3.q3.q3-inspector [hidden] { display: none; }

.q3.q3.q3.q3-inspector .q3-about { display: flex; flex-direction: column; gap: 2px; overflow-wrap: anywhere; }
.q3.q3.q3.q3-inspector .q3-about h3 { font-size: 17px; letter-spacing: -0.005em; }
.q3.q3.q3.q3-inspector .q3-used-instruction { margin-top: 4px; }

.q3.q3.q3.q3-inspector .q3-inner { display: flex; flex-direction: column; gap: 6px; margin-top: 6px; }
.q3.q3.q3.q3-inspector .q3-run input[type="text"] { width: 100%; padding: 4px 10px; }
.q3.q3.q3.q3-inspector summary { cursor: pointer; }
.q3.q3.q3.q3-inspector .q3-said { display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; font-weight: 400; }
.q3.q3.q3.q3-inspector .q3-run[open] .q3-said { display: none; }
.q3.q3.q3.q3-inspector .q3-paste { flex: 1 1 240px; min-width: 0; overflow-wrap: anywhere; }
.q3.q3.q3.q3-inspector code { font: 12px/1.4 var(--q3-mono); color: var(--q3-ink); }
.q3.q3.q3.q3-inspector progress { flex: 1 1 auto; max-width: 320px; height: 8px; accent-color: var(--q3-accent); }
.q3.q3.q3.q3-inspector .q3-search input { width: 180px; }
.q3.q3.q3.q3-inspector textarea { width: 100%; resize: vertical; padding: 6px 10px; line-height: 1.4; }
.q3.q3.q3.q3-inspector .q3-state { min-height: 1.45em; margin-left: 4px; }

.q3.q3.q3.q3-inspector .q3-controls { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 20px; padding-top: 12px; border-top: 1px solid var(--q3-line); }
.q3.q3.q3.q3-inspector .q3-controls input[type="range"] { width: 150px; }
.q3.q3.q3.q3-inspector .q3-controls input[type="number"] { width: 64px; padding: 3px 6px; }
.q3.q3.q3.q3-inspector .q3-least-value { min-width: 3.2em; text-align: right; }
.q3.q3.q3.q3-inspector [aria-pressed="true"] { background: var(--q3-mark); border-color: var(--q3-accent); }

.q3.q3.q3.q3-inspector .q3-summaries { display: flex; flex-wrap: wrap; gap: 12px; }
.q3.q3.q3.q3-inspector .q3-summaries:empty { display: none; }
.q3.q3.q3.q3-inspector .q3-summary { padding: 10px 12px; border: 1px solid var(--q3-line); border-radius: 5px; }
.q3.q3.q3.q3-inspector .q3-comparison { flex: 1 1 420px; min-width: 0; }
.q3.q3.q3.q3-inspector .q3-metrics { flex: 0 1 auto; min-width: 0; max-width: 100%; }
.q3.q3.q3.q3-inspector .q3-summary > :not(summary) { margin-top: 8px; }
.q3.q3.q3.q3-inspector .q3-summary p { margin: 0; max-width: 64ch; }
.q3.q3.q3.q3-inspector .q3-tables { display: flex; flex-wrap: wrap; align-items: end; gap: 8px 32px; }
.q3.q3.q3.q3-inspector caption { padding: 0 0 2px; font-size: 12px; color: var(--q3-ink-soft); text-align: left; caption-side: top; white-space: nowrap; }
.q3.q3.q3.q3-inspector dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 4px 16px; margin: 0; }
.q3.q3.q3.q3-inspector dt { color: var(--q3-ink-soft); margin: 0; width: auto; font-weight: 400; }
.q3.q3.q3.q3-inspector dd { margin: 0; width: auto; overflow-wrap: anywhere; }
.q3.q3.q3.q3-inspector .q3-mover { max-width: 100%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; padding: 0 8px 0 4px; border-radius: 10px; background: none; font-size: 12px; }
.q3.q3.q3.q3-inspector table { border-collapse: collapse; margin: 0; font: inherit; }
.q3.q3.q3.q3-inspector th, .q3.q3.q3.q3-inspector thead td, .q3.q3.q3.q3-inspector td { padding: 2px 0 2px 20px; text-align: right; font-weight: 400; background: none; border: 0; }
.q3.q3.q3.q3-inspector thead th { font-size: 12px; color: var(--q3-ink-soft); border-bottom: 1px solid var(--q3-line); }
.q3.q3.q3.q3-inspector tbody th { text-align: left; padding-left: 0; }

.q3.q3.q3.q3-inspector .q3-scroller { max-height: 560px; overflow: auto; overscroll-behavior: contain; scroll-padding-top: 32px; border: 1px solid var(--q3-line); border-radius: 5px; }
.q3.q3.q3.q3-inspector .q3-sheet { position: relative; display: grid; grid-template-columns: 168px minmax(0, 1fr); }
.q3.q3.q3.q3-inspector .q3-sheet.q3-compared { grid-template-columns: 236px minmax(0, 1fr); }
.q3.q3.q3.q3-inspector .q3-head { position: sticky; top: 0; z-index: 2; height: 32px; background: var(--q3-bg); border-bottom: 1px solid var(--q3-line); font-size: 12px; color: var(--q3-ink-soft); }
.q3.q3.q3.q3-inspector .q3-names span { position: absolute; top: 7px; transform: translateX(-50%); }
.q3.q3.q3.q3-inspector .q3-slope, .q3.q3.q3.q3-inspector .q3-grid { position: relative; min-width: 0; }
.q3.q3.q3.q3-inspector .q3-body { position: relative; }

.q3.q3.q3.q3-inspector .q3-chart { position: absolute; left: 0; width: 100%; overflow: clip; }
.q3.q3.q3.q3-inspector .q3-chart path { fill: none; }
.q3.q3.q3.q3-inspector .q3-chart g { cursor: pointer; outline: none; }
.q3.q3.q3.q3-inspector .q3-chart .q3-up { stroke: var(--q3-up); fill: var(--q3-up); }
.q3.q3.q3.q3-inspector .q3-chart .q3-down { stroke: var(--q3-down); fill: var(--q3-down); }
.q3.q3.q3.q3-inspector .q3-chart .q3-same { stroke: var(--q3-ink-soft); fill: var(--q3-ink-soft); }
.q3.q3.q3.q3-inspector .q3-chart circle { stroke: none; }
.q3.q3.q3.q3-inspector .q3-chart .q3-line { stroke-width: 1.6; }
.q3.q3.q3.q3-inspector .q3-chart .q3-reach { stroke: transparent; stroke-width: 12; pointer-events: stroke; }
.q3.q3.q3.q3-inspector .q3-chart .q3-down .q3-line { stroke-dasharray: 5 3; }
.q3.q3.q3.q3-inspector .q3-chart .q3-dropped { opacity: 0.4; }
.q3.q3.q3.q3-inspector .q3-chart.q3-dim g:not(.q3-places, .q3-lit) { opacity: 0.18; }
.q3.q3.q3.q3-inspector .q3-chart g.q3-lit { opacity: 1; }
.q3.q3.q3.q3-inspector .q3-chart .q3-lit .q3-line, .q3.q3.q3.q3-inspector .q3-chart [aria-selected="true"] .q3-line { stroke-width: 3; }
.q3.q3.q3.q3-inspector .q3-chart g:focus-visible .q3-reach { stroke: var(--q3-mark); }
.q3.q3.q3.q3-inspector .q3-overview { pointer-events: none; }
.q3.q3.q3.q3-inspector .q3-overview .q3-paper { fill: var(--q3-bg); stroke: none; }
.q3.q3.q3.q3-inspector .q3-overview .q3-rule { stroke: var(--q3-line); stroke-width: 1; }
.q3.q3.q3.q3-inspector .q3-overview .q3-window { stroke: var(--q3-ink-soft); stroke-width: 5; stroke-linecap: round; opacity: 0.5; }
.q3.q3.q3.q3-inspector .q3-overview .q3-line { stroke-width: 2.4; }
.q3.q3.q3.q3-inspector .q3-overview text { fill: var(--q3-ink); stroke: none; font-size: 11px; font-variant-numeric: tabular-nums; dominant-baseline: central; }
.q3.q3.q3.q3-inspector .q3-places text { fill: var(--q3-ink-soft); font-size: 11px; font-variant-numeric: tabular-nums; dominant-baseline: central; }

.q3.q3.q3.q3-inspector .q3-item { position: absolute; left: 0; right: 0; top: 0; border-bottom: 1px solid color-mix(in srgb, var(--q3-line) 55%, transparent); }
.q3.q3.q3.q3-inspector .q3-item:focus-visible { outline-offset: -2px; z-index: 1; }
.q3.q3.q3.q3-inspector .q3-item.q3-lit { background: color-mix(in srgb, var(--q3-accent) 9%, var(--q3-bg)); }
.q3.q3.q3.q3-inspector .q3-item.q3-selected { box-shadow: inset 3px 0 var(--q3-accent); }
.q3.q3.q3.q3-inspector .q3-cells { display: grid; grid-template-columns: 26px 40px 38px 88px 150px minmax(0, 1fr) 36px; column-gap: 8px; align-items: center; }
.q3.q3.q3.q3-inspector .q3-compared .q3-cells { grid-template-columns: 26px 40px 38px 88px 150px 60px minmax(0, 1fr) 36px; }
.q3.q3.q3.q3-inspector .q3-judged .q3-cells { grid-template-columns: 26px 40px 38px 88px 150px 64px minmax(0, 1fr) 36px; }
.q3.q3.q3.q3-inspector .q3-compared.q3-judged .q3-cells { grid-template-columns: 26px 40px 38px 88px 150px 60px 64px minmax(0, 1fr) 36px; }
.q3.q3.q3.q3-inspector .q3-item .q3-cells { height: var(--q3-row); }
.q3.q3.q3.q3-inspector .q3-cell { min-width: 0; white-space: nowrap; }
.q3.q3.q3.q3-inspector .q3-check { text-align: right; }
.q3.q3.q3.q3-inspector .q3-check input { appearance: none; width: 14px; height: 14px; margin: 0; padding: 0; vertical-align: middle; display: inline-grid; place-content: center; border: 1px solid var(--q3-ink-soft); border-radius: 3px; cursor: pointer; }
.q3.q3.q3.q3-inspector .q3-check input:checked { background: var(--q3-accent); border-color: var(--q3-accent); }
.q3.q3.q3.q3-inspector .q3-check input:checked::before { content: ""; width: 8px; height: 8px; background: var(--q3-bg); clip-path: polygon(14% 44%, 0 65%, 50% 100%, 100% 16%, 80% 0, 43% 62%); }
.q3.q3.q3.q3-inspector .q3-new, .q3.q3.q3.q3-inspector .q3-old, .q3.q3.q3.q3-inspector .q3-was { text-align: right; }
.q3.q3.q3.q3-inspector .q3-item .q3-new { font-weight: 600; }
.q3.q3.q3.q3-inspector .q3-change { padding-left: 12px; }
.q3.q3.q3.q3-inspector .q3-score { display: flex; align-items: center; gap: 8px; }
.q3.q3.q3.q3-inspector .q3-text { display: flex; align-items: center; gap: 6px; }
.q3.q3.q3.q3-inspector .q3-snippet { flex: 1 1 auto; min-width: 0; overflow: hidden; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 1; white-space: normal; overflow-wrap: anywhere; cursor: pointer; }
.q3.q3.q3.q3-inspector .q3-item.q3-dropped .q3-snippet, .q3.q3.q3.q3-inspector .q3-item.q3-dropped .q3-num { color: var(--q3-ink-soft); }
.q3.q3.q3.q3-inspector .q3-sort { border: 0; background: none; padding: 0; font-size: 12px; color: inherit; white-space: nowrap; }
.q3.q3.q3.q3-inspector .q3-sort:hover { text-decoration: underline; }
.q3.q3.q3.q3-inspector [aria-sort] .q3-sort { color: var(--q3-ink); font-weight: 600; }
.q3.q3.q3.q3-inspector .q3-arrow:not(:empty) { margin-right: 3px; }
.q3.q3.q3.q3-inspector .q3-value, .q3.q3.q3.q3-inspector .q3-head .q3-score .q3-sort { flex: none; width: 40px; text-align: left; }
.q3.q3.q3.q3-inspector .q3-axis { flex: 1; display: flex; justify-content: space-between; font-size: 11px; }

.q3.q3.q3.q3-inspector .q3-bar { position: relative; flex: 1; height: 8px; border-radius: 2px; background: var(--q3-bg-soft); box-shadow: inset 0 0 0 1px var(--q3-line); }
.q3.q3.q3.q3-inspector .q3-fill { position: absolute; inset: 0 auto 0 0; min-width: 1px; border-radius: 2px; background: var(--q3-accent); }
.q3.q3.q3.q3-inspector .q3-dropped .q3-fill { background: none; box-shadow: inset 0 0 0 1px var(--q3-accent); }
.q3.q3.q3.q3-inspector .q3-least { position: absolute; top: -4px; bottom: -4px; width: 1px; background: var(--q3-ink); }
.q3.q3.q3.q3-inspector .q3-tick { position: absolute; top: 50%; width: 8px; height: 8px; margin: -4px 0 0 -4px; border-radius: 50%; border: 2px solid var(--q3-ink); background: var(--q3-bg); }

.q3.q3.q3.q3-inspector .q3-chip { flex: none; font-size: 11px; line-height: 16px; padding: 0 6px; border: 1px solid var(--q3-line); border-radius: 9px; color: var(--q3-ink-soft); }
.q3.q3.q3.q3-inspector .q3-chip-cut, .q3.q3.q3.q3-inspector .q3-chip-same { color: var(--q3-ink); border-color: var(--q3-warn); }
.q3.q3.q3.q3-inspector .q3-judge { min-width: 48px; padding: 0 6px; font-size: 12px; line-height: 20px; font-variant-numeric: tabular-nums; }
.q3.q3.q3.q3-inspector .q3-judge:disabled { opacity: 1; }
.q3.q3.q3.q3-inspector .q3-judge.q3-soft { background: none; border-color: color-mix(in srgb, var(--q3-line) 60%, transparent); }
.q3.q3.q3.q3-inspector .q3-chevron { width: 24px; height: 24px; padding: 0; line-height: 1; border-color: transparent; background: none; color: var(--q3-ink-soft); }

.q3.q3.q3.q3-inspector .q3-detail { display: flex; flex-direction: column; gap: 8px; padding: 2px 44px 12px 36px; }
.q3.q3.q3.q3-inspector .q3-whole { max-height: 300px; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.5; max-width: 80ch; }

.q3.q3.q3.q3-inspector .q3-cut { position: absolute; left: 0; right: 0; height: 0; border-top: 1px dashed var(--q3-ink-soft); pointer-events: none; z-index: 1; }
.q3.q3.q3.q3-inspector .q3-cut span { position: absolute; left: 4px; top: -8px; font-size: 10.5px; line-height: 15px; color: var(--q3-ink-soft); background: var(--q3-bg); border: 1px solid var(--q3-line); border-radius: 8px; padding: 0 6px; }
.q3.q3.q3.q3-inspector .q3-hint { margin: 0; font-size: 12px; }

/* In a narrow sheet, the text is on a second line. */
.q3.q3.q3.q3-inspector .q3-two.q3-sheet { grid-template-columns: clamp(112px, 20%, 176px) minmax(0, 1fr); }
.q3.q3.q3.q3-inspector .q3-two.q3-compared { grid-template-columns: clamp(150px, 26%, 236px) minmax(0, 1fr); }
.q3.q3.q3.q3-inspector .q3-two .q3-cells.q3-cells { display: flex; flex-wrap: wrap; align-content: center; gap: 2px 8px; padding-left: 8px; }
.q3.q3.q3.q3-inspector .q3-two .q3-head.q3-cells { flex-wrap: nowrap; }
.q3.q3.q3.q3-inspector .q3-two .q3-check { width: 18px; flex: none; text-align: left; }
.q3.q3.q3.q3-inspector .q3-two .q3-new, .q3.q3.q3.q3-inspector .q3-two .q3-old { width: 38px; }
.q3.q3.q3.q3-inspector .q3-two .q3-change { width: 84px; padding-left: 4px; }
.q3.q3.q3.q3-inspector .q3-two .q3-score { flex: 1; }
.q3.q3.q3.q3-inspector .q3-two .q3-was { width: 56px; }
.q3.q3.q3.q3-inspector .q3-two .q3-label { width: 60px; }
.q3.q3.q3.q3-inspector .q3-two .q3-more { width: 30px; }
.q3.q3.q3.q3-inspector .q3-two .q3-item .q3-text { order: 2; flex: 1 0 100%; padding: 0 12px 0 26px; }
.q3.q3.q3.q3-inspector .q3-two .q3-head .q3-text { display: none; }
.q3.q3.q3.q3-inspector .q3-two .q3-detail { padding: 2px 16px 12px 34px; }
@container (width < 700px) {
  .q3.q3.q3.q3-inspector .q3-two .q3-was, .q3.q3.q3.q3-inspector .q3-two .q3-head .q3-label { display: none; }
  .q3.q3.q3.q3-inspector .q3-two .q3-item .q3-text { padding: 0 4px 0 0; flex: 1 0 calc(100% - 76px); }
  .q3.q3.q3.q3-inspector .q3-two .q3-item .q3-label { order: 3; }
  .q3.q3.q3.q3-inspector .q3-two .q3-detail { padding-left: 8px; }
}
@container (width < 480px) {
  .q3.q3.q3.q3-inspector .q3-two.q3-sheet.q3-sheet { grid-template-columns: minmax(0, 1fr); }
  .q3.q3.q3.q3-inspector .q3-slope, .q3.q3.q3.q3-inspector .q3-two .q3-cell.q3-old { display: none; }
  .q3.q3.q3.q3-inspector dl { grid-template-columns: minmax(0, 1fr); }
  .q3.q3.q3.q3-inspector dt:not(:first-child) { margin-top: 4px; }
}
`,""]),r.d(q,{},{A:a})},32(e,q,r){var o=r(29),t=r.n(o),n=r(30),a=(r.n(n))()(t());a.push([e.id,`/* Tokens of all widgets. Colours follow the host: JupyterLab's and Notebook's --jp-*, VS Code's --vscode-*, else light ones.
   The browser's own preference for dark is not asked: a dark browser with a light notebook stays light.

   A host's own style sheet reaches into its outputs: JupyterLab has \`.jp-OutputArea-output dt {float: left; width: 20%}\`. So all elements
   here go back to the browser's styles, and every rule of the widgets repeats \`.q3\`, which makes it stronger than this reset; those of
   one widget have one \`.q3\` more than the shared ones, because a page with several widgets has the shared ones several times. The
   attributes of SVG elements count as styles of the page; they stay. */
.q3.q3, .q3.q3 :where(:not(svg, svg *)) { all: revert; }
.q3.q3 *::before, .q3.q3 *::after { all: revert; }
.q3.q3.q3 {
  --q3-bg: var(--jp-layout-color1, var(--vscode-editor-background, #ffffff));
  --q3-bg-soft: var(--jp-layout-color2, var(--vscode-editorWidget-background, #f5f6f8));
  --q3-ink: var(--jp-ui-font-color0, var(--vscode-editor-foreground, #16181d));
  /* Hosts choose these for marks; small texts need more contrast, so some of the ink is mixed in. */
  --q3-ink-soft: color-mix(in srgb, var(--jp-ui-font-color2, var(--vscode-descriptionForeground, #5b6270)) 88%, var(--q3-ink));
  --q3-line: var(--jp-border-color2, var(--vscode-panel-border, #d9dce2));
  --q3-accent: var(--jp-brand-color1, var(--vscode-focusBorder, #1769c4));
  --q3-good: color-mix(in srgb, var(--jp-success-color1, var(--vscode-testing-iconPassed, #227a3c)) 80%, var(--q3-ink));
  --q3-bad: color-mix(in srgb, var(--jp-error-color1, var(--vscode-errorForeground, #b3261e)) 88%, var(--q3-ink));
  --q3-warn: var(--jp-warn-color1, var(--vscode-editorWarning-foreground, #9a5b00));
  --q3-up: var(--q3-good);
  --q3-down: var(--q3-bad);
  --q3-mark: color-mix(in srgb, var(--q3-accent) 22%, transparent);
  --q3-mono: var(--jp-code-font-family, var(--vscode-editor-font-family, ui-monospace, SFMono-Regular, Menlo, monospace));
  --q3-space: 8px;
  box-sizing: border-box;
  color: var(--q3-ink);
  background: var(--q3-bg);
  font: 13px/1.45 var(--jp-ui-font-family, var(--vscode-font-family, system-ui, sans-serif));
  border: 1px solid var(--q3-line);
  border-radius: 6px;
  padding: calc(1.5 * var(--q3-space));
  container-type: inline-size;
  direction: ltr; letter-spacing: normal; text-align: start; text-indent: 0; text-transform: none; white-space: normal; word-spacing: normal;
}
.q3.q3.q3 *, .q3.q3.q3 *::before, .q3.q3.q3 *::after { box-sizing: border-box; }
.q3.q3.q3 h3 { font-size: 15px; font-weight: 600; line-height: 1.3; margin: 0; }
.q3.q3.q3 .q3-soft { color: var(--q3-ink-soft); }
.q3.q3.q3 .q3-num { font-variant-numeric: tabular-nums; }
.q3.q3.q3 .q3-row { display: flex; flex-wrap: wrap; align-items: center; gap: var(--q3-space); }
.q3.q3.q3 .q3-grow { flex: 1 1 auto; min-width: 0; }
.q3.q3.q3 button, .q3.q3.q3 select, .q3.q3.q3 input, .q3.q3.q3 textarea {
  font: inherit; color: inherit; background: var(--q3-bg); border: 1px solid var(--q3-line); border-radius: 4px; padding: 3px 10px; margin: 0;
}
.q3.q3.q3 input[type="range"] { padding: 0; accent-color: var(--q3-accent); }
.q3.q3.q3 input[type="checkbox"], .q3.q3.q3 input[type="radio"] { accent-color: var(--q3-accent); }
.q3.q3.q3 button { cursor: pointer; background: var(--q3-bg-soft); }
.q3.q3.q3 button:hover:not(:disabled) { border-color: var(--q3-accent); }
.q3.q3.q3 button.q3-main { background: var(--q3-accent); border-color: var(--q3-accent); color: var(--jp-ui-inverse-font-color1, #ffffff); }
.q3.q3.q3 button:disabled { cursor: default; opacity: 0.55; }
.q3.q3.q3 :focus-visible { outline: 2px solid var(--q3-accent); outline-offset: 1px; }
.q3.q3.q3 .q3-error { color: var(--q3-bad); border-left: 3px solid var(--q3-bad); padding: 4px 8px; margin-top: var(--q3-space); white-space: pre-wrap; overflow-wrap: anywhere; }
.q3.q3.q3 .q3-ended { border-left: 3px solid var(--q3-warn); background: color-mix(in srgb, var(--q3-warn) 12%, var(--q3-bg)); border-radius: 0 4px 4px 0; padding: 6px 10px; margin-bottom: var(--q3-space); overflow-wrap: anywhere; }
.q3.q3.q3 .q3-ended:empty { display: none; }
.q3.q3.q3 [inert] { opacity: 0.5; }
.q3.q3.q3 [inert] [inert] { opacity: 1; }
.q3.q3.q3 .q3-error:empty { display: none; }
.q3.q3.q3 .q3-hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.q3.q3.q3 .q3-busy::before { content: ""; display: inline-block; width: 0.8em; height: 0.8em; margin-right: 0.5em; border: 2px solid var(--q3-line); border-top-color: var(--q3-accent); border-radius: 50%; vertical-align: -0.1em; animation: q3-turn 0.9s linear infinite; }
@keyframes q3-turn { to { transform: rotate(360deg); } }
@media (prefers-reduced-motion: reduce) { .q3.q3.q3 .q3-busy::before { animation: none; } }

.q3.q3.q3.q3-panel { display: flex; flex-direction: column; gap: 16px; padding: 16px; --q3-code: color-mix(in srgb, var(--q3-bg-soft) 55%, var(--q3-bg)); }
.q3.q3.q3.q3-panel [hidden] { display: none !important; }
.q3.q3.q3.q3-panel > .q3-error { margin-top: 0; }
.q3.q3.q3.q3-panel h4 { font-size: 13px; font-weight: 600; margin: 0; }
.q3.q3.q3.q3-panel p { margin: 8px 0 0; }
.q3.q3.q3.q3-panel ul, .q3.q3.q3.q3-panel ol, .q3.q3.q3.q3-panel dl, .q3.q3.q3.q3-panel dd { margin: 0; padding: 0; list-style: none; }
.q3.q3.q3.q3-panel button { white-space: nowrap; }
.q3.q3.q3.q3-panel .q3-heading { margin-bottom: 8px; min-height: 27px; }
.q3.q3.q3.q3-panel .q3-label { font-size: 12px; color: var(--q3-ink-soft); }
.q3.q3.q3.q3-panel .q3-wrong { color: var(--q3-bad); }
.q3.q3.q3.q3-panel .q3-warning { border-left: 3px solid var(--q3-warn); padding: 2px 8px; }
.q3.q3.q3.q3-panel code, .q3.q3.q3.q3-panel pre { font-family: var(--q3-mono); font-size: 12px; background: none; color: inherit; padding: 0; }
.q3.q3.q3.q3-panel pre { line-height: 1.5; margin: 0; padding: 8px 12px; background: var(--q3-code); border-radius: 4px; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere; }

/* the head */
.q3.q3.q3.q3-panel .q3-head { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 8px 16px; }
.q3.q3.q3.q3-panel .q3-head > .q3-grow { flex: 1 1 220px; }
.q3.q3.q3.q3-panel .q3-state { display: flex; align-items: baseline; gap: 8px; line-height: 27px; }
.q3.q3.q3.q3-panel .q3-word { font-size: 16px; font-weight: 600; margin-right: 4px; }
.q3.q3.q3.q3-panel .q3-what, .q3.q3.q3.q3-panel .q3-facts { display: flex; flex-wrap: wrap; gap: 0 16px; overflow-wrap: anywhere; }
.q3.q3.q3.q3-panel .q3-what { padding-left: 20px; }
.q3.q3.q3.q3-panel .q3-name { color: var(--q3-ink); font-weight: 500; overflow-wrap: anywhere; }
.q3.q3.q3.q3-panel .q3-light { flex: none; align-self: center; width: 12px; height: 12px; border-radius: 50%; border: 2px solid var(--q3-ink-soft); }
.q3.q3.q3.q3-panel .q3-light[data-kind="good"] { background: var(--q3-good); border-color: var(--q3-good); box-shadow: 0 0 0 3px color-mix(in srgb, var(--q3-good) 22%, transparent); }
.q3.q3.q3.q3-panel .q3-light[data-kind="bad"] { background: var(--q3-bad); border-color: var(--q3-bad); border-radius: 2px; }
.q3.q3.q3.q3-panel .q3-light[data-kind="busy"] { border-color: var(--q3-line); border-top-color: var(--q3-accent); border-right-color: var(--q3-accent); animation: q3-turn 0.9s linear infinite; }

/* a start */
.q3.q3.q3.q3-panel .q3-steps ol { display: flex; flex-wrap: wrap; gap: 4px 20px; font-size: 12px; color: var(--q3-ink-soft); margin-bottom: 8px; }
.q3.q3.q3.q3-panel .q3-steps li::before { content: "○ "; }
.q3.q3.q3.q3-panel .q3-steps li.q3-done::before { content: "✓ "; color: var(--q3-good); }
.q3.q3.q3.q3-panel .q3-steps li[aria-current] { color: var(--q3-ink); font-weight: 600; }
.q3.q3.q3.q3-panel .q3-steps li[aria-current]::before { content: "● "; color: var(--q3-accent); }
.q3.q3.q3.q3-panel .q3-bar { height: 4px; border-radius: 2px; background: var(--q3-line); overflow: hidden; }
.q3.q3.q3.q3-panel .q3-bar > div { height: 100%; border-radius: 2px; background: var(--q3-accent); transition: width 0.3s; }
.q3.q3.q3.q3-panel .q3-bar.q3-unknown > div { width: 25%; animation: q3-pass 1.6s ease-in-out infinite alternate; }
.q3.q3.q3.q3-panel .q3-detail { margin-top: 6px; font-size: 12px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; min-height: 18px; }
@keyframes q3-pass { from { margin-left: 0; } to { margin-left: 75%; } }
.q3.q3.q3.q3-panel .q3-lifted { border-left: 3px solid var(--q3-bad); background: color-mix(in srgb, var(--q3-bad) 9%, var(--q3-bg)); border-radius: 0 4px 4px 0; padding: 8px 12px; }
.q3.q3.q3.q3-panel .q3-lifted code { white-space: pre-wrap; overflow-wrap: anywhere; }

/* the options */
.q3.q3.q3.q3-panel .q3-grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 190px), 1fr)); gap: 12px 16px; align-items: start; }
.q3.q3.q3.q3-panel .q3-field { display: flex; flex-direction: column; gap: 3px; min-width: 0; }
.q3.q3.q3.q3-panel .q3-field > label { font-size: 12px; font-weight: 500; }
.q3.q3.q3.q3-panel .q3-field input[type="text"], .q3.q3.q3.q3-panel .q3-field select { width: 100%; height: 30px; padding: 3px 8px; }
.q3.q3.q3.q3-panel .q3-field input::placeholder { color: var(--q3-ink-soft); opacity: 1; }
.q3.q3.q3.q3-panel .q3-field [aria-invalid="true"] { border-color: var(--q3-bad); }
.q3.q3.q3.q3-panel .q3-help { font-size: 12px; line-height: 1.35; color: var(--q3-ink-soft); overflow-wrap: anywhere; }
.q3.q3.q3.q3-panel .q3-help.q3-wrong { color: var(--q3-bad); }
.q3.q3.q3.q3-panel .q3-model { grid-column: span 2; }
.q3.q3.q3.q3-panel .q3-number input, .q3.q3.q3.q3-panel .q3-share input { font-variant-numeric: tabular-nums; }
.q3.q3.q3.q3-panel .q3-more { margin-top: 12px; }
.q3.q3.q3.q3-panel > .q3-more { margin-top: 0; }
.q3.q3.q3.q3-panel summary { cursor: pointer; font-weight: 500; width: fit-content; border-radius: 3px; }
.q3.q3.q3.q3-panel summary > .q3-soft { margin-left: 8px; font-weight: 400; }
.q3.q3.q3.q3-panel fieldset { border: 0; border-top: 1px solid var(--q3-line); margin: 12px 0 0; padding: 4px 0 0; min-width: 0; }
.q3.q3.q3.q3-panel legend { padding: 0 8px 0 0; font-size: 12px; font-weight: 600; color: var(--q3-ink-soft); }

/* memory */
.q3.q3.q3.q3-panel .q3-device { margin-bottom: 8px; }
.q3.q3.q3.q3-panel .q3-memory { position: relative; display: flex; gap: 1px; height: 14px; margin-top: 4px; border-radius: 3px; background: var(--q3-code); box-shadow: inset 0 0 0 1px var(--q3-line); overflow: hidden; }
.q3.q3.q3.q3-panel .q3-memory > div { flex: none; }
.q3.q3.q3.q3-panel .q3-used { background: repeating-linear-gradient(135deg, var(--q3-line) 0 3px, transparent 3px 6px); }
.q3.q3.q3.q3-panel .q3-part { min-width: 2px; }
.q3.q3.q3.q3-panel .q3-part-0 { background: var(--q3-accent); }
.q3.q3.q3.q3-panel .q3-part-1 { background: color-mix(in srgb, var(--q3-accent) 76%, var(--q3-bg)); }
.q3.q3.q3.q3-panel .q3-part-2 { background: color-mix(in srgb, var(--q3-accent) 56%, var(--q3-bg)); }
.q3.q3.q3.q3-panel .q3-part-3 { background: color-mix(in srgb, var(--q3-accent) 36%, var(--q3-bg)); }
.q3.q3.q3.q3-panel .q3-over { position: absolute; top: 0; bottom: 0; right: 0; border-left: 2px solid var(--q3-bad); background: repeating-linear-gradient(135deg, var(--q3-bad) 0 3px, transparent 3px 6px); }
.q3.q3.q3.q3-panel .q3-legend { display: flex; flex-wrap: wrap; gap: 4px 24px; font-size: 12px; }
.q3.q3.q3.q3-panel .q3-legend > div { display: flex; align-items: center; gap: 6px; }
.q3.q3.q3.q3-panel .q3-legend dt { display: flex; align-items: center; gap: 6px; color: var(--q3-ink-soft); }
.q3.q3.q3.q3-panel .q3-swatch { width: 10px; height: 10px; border-radius: 2px; }
.q3.q3.q3.q3-panel .q3-sum dd { font-weight: 600; }

/* running servers */
.q3.q3.q3.q3-panel .q3-others li { flex-wrap: nowrap; padding: 8px 0; border-top: 1px solid var(--q3-line); }
.q3.q3.q3.q3-panel .q3-facts { font-size: 12px; }

/* a server that is ready */
.q3.q3.q3.q3-panel .q3-address { display: flex; flex-direction: column; gap: 6px; }
.q3.q3.q3.q3-panel .q3-address > .q3-row { flex-wrap: nowrap; min-height: 27px; }
.q3.q3.q3.q3-panel .q3-address .q3-label { flex: none; width: 64px; }
.q3.q3.q3.q3-panel .q3-address code { overflow-wrap: anywhere; }
.q3.q3.q3.q3-panel .q3-tiles { display: grid; grid-template-columns: repeat(4, minmax(max-content, 1fr)) minmax(220px, 3fr); gap: 8px; }
.q3.q3.q3.q3-panel .q3-tile { border: 1px solid var(--q3-line); border-radius: 4px; padding: 8px 12px; min-width: 0; position: relative; }
.q3.q3.q3.q3-panel .q3-tile dd:not(.q3-trend) { font-size: 20px; line-height: 1.3; font-weight: 500; }
.q3.q3.q3.q3-panel .q3-tile.q3-ill dd { color: var(--q3-bad); }
.q3.q3.q3.q3-panel .q3-wide { display: grid; grid-template-columns: auto 1fr; grid-template-rows: auto auto; column-gap: 16px; }
.q3.q3.q3.q3-panel .q3-wide .q3-trend { grid-column: 2; grid-row: 1 / 3; display: flex; flex-direction: column; justify-content: space-between; align-items: flex-end; font-size: 12px; font-weight: 400; }
.q3.q3.q3.q3-panel .q3-trend .q3-curve { width: 100%; height: 28px; }
.q3.q3.q3.q3-panel .q3-line { fill: none; stroke: var(--q3-accent); stroke-width: 1.5; stroke-linejoin: round; }
.q3.q3.q3.q3-panel .q3-area { fill: color-mix(in srgb, var(--q3-accent) 16%, transparent); }
.q3.q3.q3.q3-panel .q3-tabs { display: flex; gap: 2px; }
.q3.q3.q3.q3-panel .q3-tabs button { background: none; border-color: transparent; border-bottom: 2px solid transparent; border-radius: 0; color: var(--q3-ink-soft); }
.q3.q3.q3.q3-panel .q3-tabs button[aria-selected="true"] { color: var(--q3-ink); border-bottom-color: var(--q3-accent); font-weight: 500; }

/* the log */
.q3.q3.q3.q3-panel .q3-path { flex: 1 1 0; min-width: 60px; font: 12px/1.4 var(--q3-mono); white-space: nowrap; overflow: hidden; text-overflow: ellipsis; direction: rtl; text-align: left; }
.q3.q3.q3.q3-panel .q3-logbox { position: relative; }
.q3.q3.q3.q3-panel .q3-log { height: 220px; white-space: pre; overflow-wrap: normal; font-size: 11.5px; }
.q3.q3.q3.q3-panel .q3-severe { color: var(--q3-bad); }
.q3.q3.q3.q3-panel .q3-mild { color: color-mix(in srgb, var(--q3-warn) 55%, var(--q3-ink)); }
.q3.q3.q3.q3-panel .q3-newer { position: absolute; right: 20px; bottom: 16px; box-shadow: 0 1px 4px rgba(0, 0, 0, 0.25); }

@container (max-width: 640px) {
  .q3.q3.q3.q3-panel .q3-tiles { grid-template-columns: repeat(4, minmax(max-content, 1fr)); }
  .q3.q3.q3.q3-panel .q3-wide { grid-column: 1 / -1; }
}
@container (max-width: 480px) {
  .q3.q3.q3.q3-panel .q3-tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
}
@container (max-width: 420px) {
  .q3.q3.q3.q3-panel .q3-model { grid-column: auto; }
}
@media (prefers-reduced-motion: reduce) {
  .q3.q3.q3.q3-panel .q3-light[data-kind="busy"], .q3.q3.q3.q3-panel .q3-bar.q3-unknown > div { animation: none; }
  .q3.q3.q3.q3-panel .q3-bar.q3-unknown > div { width: 100%; opacity: 0.35; }
}
`,""]),r.d(q,{},{A:a})},30(e){e.exports=function(e){var q=[];return q.toString=function(){return this.map(function(q){var r="",o=void 0!==q[5];return q[4]&&(r+="@supports (".concat(q[4],") {")),q[2]&&(r+="@media ".concat(q[2]," {")),o&&(r+="@layer".concat(q[5].length>0?" ".concat(q[5]):""," {")),r+=e(q),o&&(r+="}"),q[2]&&(r+="}"),q[4]&&(r+="}"),r}).join("")},q.i=function(e,r,o,t,n){"string"==typeof e&&(e=[[null,e,void 0]]);var a={};if(o)for(var i=0;i<this.length;i++){var p=this[i][0];null!=p&&(a[p]=!0)}for(var s=0;s<e.length;s++){var l=[].concat(e[s]);o&&a[l[0]]||(void 0!==n&&(void 0===l[5]||(l[1]="@layer".concat(l[5].length>0?" ".concat(l[5]):""," {").concat(l[1],"}")),l[5]=n),r&&(l[2]&&(l[1]="@media ".concat(l[2]," {").concat(l[1],"}")),l[2]=r),t&&(l[4]?(l[1]="@supports (".concat(l[4],") {").concat(l[1],"}"),l[4]=t):l[4]="".concat(t)),q.push(l))}},q}},29(e){e.exports=function(e){return e[1]}},22(e){var q=[];function r(e){for(var r=-1,o=0;o<q.length;o++)if(q[o].identifier===e){r=o;break}return r}function o(e,o){for(var t={},n=[],a=0;a<e.length;a++){var i=e[a],p=o.base?i[0]+o.base:i[0],s=t[p]||0,l="".concat(p," ").concat(s);t[p]=s+1;var d=r(l),c={css:i[1],media:i[2],sourceMap:i[3],supports:i[4],layer:i[5]};if(-1!==d)q[d].references++,q[d].updater(c);else{var x=function(e,q){var r=q.domAPI(q);return r.update(e),function(q){q?(q.css!==e.css||q.media!==e.media||q.sourceMap!==e.sourceMap||q.supports!==e.supports||q.layer!==e.layer)&&r.update(e=q):r.remove()}}(c,o);o.byIndex=a,q.splice(a,0,{identifier:l,updater:x,references:1})}n.push(l)}return n}e.exports=function(e,t){var n=o(e=e||[],t=t||{});return function(e){e=e||[];for(var a=0;a<n.length;a++){var i=r(n[a]);q[i].references--}for(var p=o(e,t),s=0;s<n.length;s++){var l=r(n[s]);0===q[l].references&&(q[l].updater(),q.splice(l,1))}n=p}}},24(e){var q={};e.exports=function(e,r){var o=function(e){if(void 0===q[e]){var r=document.querySelector(e);if(window.HTMLIFrameElement&&r instanceof window.HTMLIFrameElement)try{r=r.contentDocument.head}catch(e){r=null}q[e]=r}return q[e]}(e);if(!o)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");o.appendChild(r)}},26(e){e.exports=function(e){var q=document.createElement("style");return e.setAttributes(q,e.attributes),e.insert(q,e.options),q}},25(e,q,r){e.exports=function(e){var q=r.nc;q&&e.setAttribute("nonce",q)}},23(e){e.exports=function(e){if("u"<typeof document)return{update:function(){},remove:function(){}};var q=e.insertStyleElement(e);return{update:function(r){var o,t,n;o="",r.supports&&(o+="@supports (".concat(r.supports,") {")),r.media&&(o+="@media ".concat(r.media," {")),(t=void 0!==r.layer)&&(o+="@layer".concat(r.layer.length>0?" ".concat(r.layer):""," {")),o+=r.css,t&&(o+="}"),r.media&&(o+="}"),r.supports&&(o+="}"),(n=r.sourceMap)&&"u">typeof btoa&&(o+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(n))))," */")),e.styleTagTransform(o,q,e.options)},remove:function(){var e;null===(e=q).parentNode||e.parentNode.removeChild(e)}}}},27(e){e.exports=function(e,q){if(q.styleSheet)q.styleSheet.cssText=e;else{for(;q.firstChild;)q.removeChild(q.firstChild);q.appendChild(document.createTextNode(e))}}},21(e,q,r){var o=r(22),t=r.n(o),n=r(23),a=r.n(n),i=r(24),p=r.n(i),s=r(25),l=r.n(s),d=r(26),c=r.n(d),x=r(27),g=r.n(x),f=r(28),h={};h.styleTagTransform=g(),h.setAttributes=l(),h.insert=p().bind(null,"head"),h.domAPI=a(),h.insertStyleElement=c(),t()(f.A,h),f.A&&f.A.locals&&f.A.locals}}]);