import type { IDevice, IServer, IStart } from './api.js';
import { h, svg } from './dom.js';

/** The clients for which there is code, with their names. */
export const CLIENTS: Record<string, string> = { langchain: 'LangChain', llama_index: 'LlamaIndex', openai: 'openai', curl: 'curl' };

export interface ICardActions {
  open(server: IServer | IStart): void;
  insert(server: IServer, client: string): void;
  stop(server: IServer): void;
  dismiss(start: IStart): void;
}

const isServer = (one: IServer | IStart): one is IServer => 'name' in one;

/** What identifies a card while the list is drawn again: the focus stays on it. */
export const keyOf = (one: IServer | IStart): string => (isServer(one) ? one.name : one.panel);

function light(state: string): HTMLElement {
  const kind = state === 'ready' ? 'good' : state === 'failed' ? 'bad' : state === 'stopped' ? 'idle' : 'busy';
  return h('span', { class: 'q3-light', 'data-kind': kind, 'aria-hidden': 'true' });
}

function progress(state: string, fraction: number | null, detail: string): HTMLElement | null {
  if (['ready', 'failed', 'stopped'].includes(state)) {
    return null;
  }
  const percent = fraction === null ? null : Math.round(100 * fraction);
  const bar = h(
    'div',
    { class: `q3-bar${percent === null ? ' q3-unknown' : ''}`, role: 'progressbar', 'aria-label': state, 'aria-valuemin': 0, 'aria-valuemax': 100, 'aria-valuenow': percent },
    h('div', { style: percent === null ? null : `width: ${percent}%` })
  );
  const words = [percent === null ? '' : `${percent} %`, detail].filter(Boolean).join(' · ');
  return h('div', {}, bar, h('div', { class: 'q3-soft q3-clip', title: words }, words || '\u00a0'));
}

/** A server, or a start without a server. */
export function card(one: IServer | IStart, actions: ICardActions): HTMLElement {
  const key = keyOf(one);
  const button = (name: string, words: string, label: string, act: () => void): HTMLElement =>
    h('button', { type: 'button', 'data-key': `${key} ${name}`, 'aria-label': label, onclick: act }, words);
  const facts = isServer(one) ? [one.task, one.program, one.state === 'ready' ? `up ${one.up}` : null] : [one.task];
  const life = isServer(one) ? (one.keep_running ? 'keeps running' : one.owned ? 'ends with Jupyter' : `ends with process ${one.owner_pid}`) : null;
  const busy = isServer(one) && (one.running ?? 0) + (one.waiting ?? 0) > 0 ? `${one.running ?? 0} in flight, ${one.waiting ?? 0} in the queue` : null;
  return h(
    'li',
    { class: 'q3-card', 'data-server': key },
    h('div', { class: 'q3-state' }, light(one.state), h('strong', {}, one.state), h('span', { class: 'q3-grow' }), button('open', 'Open', `Open ${one.model}`, () => { actions.open(one); })),
    h('div', { class: 'q3-name' }, one.model),
    h('div', { class: 'q3-soft q3-facts' }, ...[...facts, life, busy].filter(Boolean).map(fact => h('span', {}, fact))),
    isServer(one) && h('div', { class: 'q3-soft q3-address' }, one.url),
    progress(one.state, one.fraction, one.detail),
    one.first_error ? h('div', { class: 'q3-lifted' }, h('code', {}, one.first_error)) : null,
    isServer(one) && one.state === 'ready'
      ? h(
          'div',
          { class: 'q3-row', role: 'group', 'aria-label': `Insert code for ${one.model}` },
          h('span', { class: 'q3-soft' }, 'Insert'),
          ...Object.entries(CLIENTS)
            .filter(([client]) => client !== 'openai' || one.task === 'embed')
            .map(([client, words]) => button(client, words, `Insert ${words} code for ${one.model}`, () => { actions.insert(one, client); }))
        )
      : null,
    h(
      'div',
      { class: 'q3-row' },
      isServer(one)
        ? button('stop', 'Stop', `Stop ${one.name}`, () => { actions.stop(one); })
        : one.state === 'failed'
          ? button('dismiss', 'Dismiss', `Dismiss the failed start of ${one.model}`, () => { actions.dismiss(one); })
          : null
    )
  );
}

const WIDTH = 119;

function curve(values: readonly number[], name: string): SVGElement {
  const points = values.map((value, at) => `${WIDTH - values.length + 1 + at},${(23 - 22 * Math.min(1, Math.max(0, value))).toFixed(1)}`).join(' ');
  return svg('polyline', { class: `q3-curve-${name}`, points, 'vector-effect': 'non-scaling-stroke' });
}

/** A device: its memory now, and its memory and use over time. */
export function device(one: IDevice): HTMLElement {
  const use = one.use === null ? '' : `, ${Math.round(100 * one.use)} % in use`;
  const words = `${one.used} of ${one.total}${use}`;
  return h(
    'li',
    { class: 'q3-device' },
    h('div', { class: 'q3-row' }, h('span', { class: 'q3-grow' }, one.name), h('span', { class: 'q3-soft q3-num' }, words)),
    h(
      'div',
      { class: 'q3-curves', role: 'img', 'aria-label': `${one.name}: memory ${words}; curves of the last ${one.curves.memory.length} looks` },
      svg('svg', { viewBox: `0 0 ${WIDTH} 24`, preserveAspectRatio: 'none', 'aria-hidden': 'true' }, curve(one.curves.memory, 'memory'), curve(one.curves.use, 'use'))
    )
  );
}
