/** The format of `application/vnd.qwen3.ranking+json`, and an inspector's traits made from it. See docs/ranking-format.md. */

export const MIME = 'application/vnd.qwen3.ranking+json';

/** The newest version of the format that this reader knows. */
export const VERSION = 1;

export interface IScore {
  index: number;
  score: number;
  truncated?: boolean;
  /** The place among all documents, from 0, where not all are listed. */
  rank?: number;
}

export interface IHit extends IScore {
  text: string;
  metadata?: Record<string, string>;
  label?: number | null;
}

interface IAbout {
  query: string;
  instruction?: string;
  model?: string;
  tokens?: number | null;
  seconds?: number;
}

export interface IRanking extends IAbout {
  version: number;
  hits: IHit[];
  top_n?: number | null;
  score_threshold?: number | null;
  total?: number;
  compare?: (IAbout & { hits: IScore[]; kendall_tau?: number | null }) | null;
  view?: Record<string, unknown>;
}

/** A document that is not a ranking that can be shown. */
export class Unreadable extends Error {}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

const isScore = (value: unknown): boolean =>
  isObject(value) && Number.isInteger(value['index']) && (value['index'] as number) >= 0 && typeof value['score'] === 'number';

/** Check a JSON value. It throws `Unreadable` with the reason. */
export function readRanking(value: unknown): IRanking {
  if (!isObject(value)) {
    throw new Unreadable('It is not a JSON object.');
  }
  const version = value['version'];
  if (typeof version !== 'number') {
    throw new Unreadable('It has no "version".');
  }
  if (version > VERSION) {
    throw new Unreadable(
      `It has version ${version} of the format, and this extension reads versions up to ${VERSION}. Update qwen3-integrations where JupyterLab is installed.`
    );
  }
  if (typeof value['query'] !== 'string') {
    throw new Unreadable('It has no "query".');
  }
  const hits = value['hits'];
  if (!Array.isArray(hits)) {
    throw new Unreadable('It has no list of "hits".');
  }
  const wrong = hits.findIndex(hit => !isScore(hit) || typeof (hit as Record<string, unknown>)['text'] !== 'string');
  if (wrong >= 0) {
    throw new Unreadable(`Hit ${wrong} has no "index", "score" or "text".`);
  }
  if (new Set(hits.map(hit => (hit as IHit).index)).size < hits.length) {
    throw new Unreadable('Two hits have the same "index".');
  }
  const compare = value['compare'];
  if (compare !== undefined && compare !== null) {
    const other = isObject(compare) ? compare['hits'] : null;
    if (!Array.isArray(other) || !other.every(isScore) || !sameDocuments(hits as IHit[], other as IScore[])) {
      throw new Unreadable('"compare" does not rank the same documents.');
    }
  }
  return value as unknown as IRanking;
}

function sameDocuments(hits: readonly IScore[], other: readonly IScore[]): boolean {
  const listed = new Set(hits.map(hit => hit.index));
  return other.length === hits.length && new Set(other.map(hit => hit.index)).size === hits.length && other.every(hit => listed.has(hit.index));
}

/** How many documents were ranked and are not listed. */
export const missing = (ranking: IRanking): number => Math.max(0, (ranking.total ?? 0) - ranking.hits.length);

/** Most documents in a page, as in `notebook/inspector_views.py`. */
export const MOST_SHOWN = 10_000;

/**
 * The traits of an inspector without a kernel, as the Python widget sets them.
 *
 * Where not all documents that were ranked are in the page, the traits are mappings by position, and places count all documents.
 */
export function traitsOf(ranking: IRanking, defaults: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const hits = ranking.hits.slice(0, MOST_SHOWN);
  const total = ranking.hits.reduce((most, hit) => Math.max(most, hit.index + 1), ranking.total ?? 0);
  const shown = new Set(hits.map(hit => hit.index));
  const passed = [...hits].sort((a, b) => a.index - b.index);
  const isWhole = hits.length === total;
  const first = new Map<string, number>();
  const documents = passed.map((hit): [number, unknown] => {
    const same = first.get(hit.text) ?? null;
    if (same === null) {
      first.set(hit.text, hit.index);
    }
    return [hit.index, { text: hit.text, same, about: hit.metadata ?? {} }];
  });
  /** Values by position: a list of all documents', or a mapping of the shown ones'. */
  const placed = <T>(values: ReadonlyArray<readonly [number, T]>): T[] | Record<string, T> =>
    isWhole ? [...values].sort(([a], [b]) => a - b).map(([, value]) => value) : Object.fromEntries(values);
  const viewOf = (one: IAbout, ranked: readonly IScore[]): Record<string, unknown> => {
    const ranks = ranked.map((hit, place): [number, number] => [hit.index, hit.rank ?? place]).filter(([index]) => shown.has(index));
    const listed = ranked.filter(hit => shown.has(hit.index));
    return {
      query: one.query,
      instruction: one.instruction ?? '',
      model: one.model ?? '',
      total,
      order: listed.map(hit => hit.index),
      scores: placed(listed.map((hit): [number, number] => [hit.index, hit.score])),
      ...(isWhole ? {} : { rank: Object.fromEntries(ranks) }),
      truncated: listed.flatMap(hit => (hit.truncated ? [hit.index] : [])).sort((a, b) => a - b),
      tokens: one.tokens ?? 0,
      seconds: one.seconds ?? 0
    };
  };
  const known = Object.entries(ranking.view ?? {}).filter(([name]) => name in defaults && !(name in OWN));
  const selection = (ranking.view?.['selection'] ?? []) as number[];
  const labels = passed.map((hit): [number, number | null] => [hit.index, hit.label ?? null]);
  return {
    ...structuredClone(defaults),
    ...Object.fromEntries(known),
    selection: selection.filter(index => shown.has(index)),
    instruction: ranking.instruction ?? '',
    top_n: ranking.top_n ?? null,
    threshold: ranking.score_threshold ?? 0,
    labels: placed(isWhole ? labels : labels.filter(([, label]) => label !== null)),
    _documents: placed(documents),
    _view: viewOf(ranking, hits),
    _other: ranking.compare ? { ...viewOf(ranking.compare, ranking.compare.hits), tau: ranking.compare.kendall_tau ?? 0 } : null
  };
}

const OWN = { _documents: 0, _view: 0, _other: 0, labels: 0, instruction: 0, top_n: 0, threshold: 0, selection: 0 };
