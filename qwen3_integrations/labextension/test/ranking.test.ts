import assert from 'node:assert/strict';
import test from 'node:test';

import { type IRanking, missing, MOST_SHOWN, readRanking, traitsOf, Unreadable } from '../src/ranking.js';

const DEFAULTS = { _documents: [], _view: {}, _other: null, labels: [], instruction: '', top_n: null, threshold: 0, selection: [], k: 10, sort: 'new', _live: false, _note: '' };

const ranking: IRanking = {
  version: 1,
  query: 'copy',
  instruction: 'Find',
  model: 'm',
  tokens: null,
  seconds: 0.5,
  top_n: 2,
  score_threshold: null,
  total: 3,
  hits: [
    { index: 2, score: 0.9, text: 'same', truncated: true },
    { index: 0, score: 0.5, text: 'same', metadata: { page: '3' }, label: 0 },
    { index: 1, score: 0.1, text: 'other' }
  ]
};

void test('a ranking becomes the traits of an inspector', () => {
  const traits = traitsOf(readRanking(ranking), DEFAULTS);
  assert.deepEqual(traits['_documents'], [
    { text: 'same', same: null, about: { page: '3' } },
    { text: 'other', same: null, about: {} },
    { text: 'same', same: 0, about: {} }
  ]);
  assert.deepEqual(traits['_view'], { query: 'copy', instruction: 'Find', model: 'm', total: 3, order: [2, 0, 1], scores: [0.5, 0.1, 0.9], truncated: [2], tokens: 0, seconds: 0.5 });
  assert.deepEqual(traits['labels'], [0, null, null]);
  assert.equal(traits['top_n'], 2);
  assert.equal(traits['threshold'], 0);
  assert.equal(traits['_other'], null);
});

void test('the view is taken over where the inspector knows its names, and nothing else', () => {
  const traits = traitsOf({ ...ranking, view: { k: 5, sort: 'old', selection: [1, 9], unknown: 1, _documents: ['x'], threshold: 0.7 } }, DEFAULTS);
  assert.equal(traits['k'], 5);
  assert.equal(traits['sort'], 'old');
  assert.deepEqual(traits['selection'], [1]);
  assert.equal('unknown' in traits, false);
  assert.equal(traits['threshold'], 0);
  assert.equal((traits['_documents'] as unknown[]).length, 3);
});

void test('where only the best documents are listed, places count all documents, as in the widget', () => {
  const some: IRanking = {
    version: 1, query: 'q', total: 1000, view: { selection: [700, 3] },
    hits: [{ index: 700, score: 0.9, text: 'a', truncated: true, label: 2 }, { index: 20, score: 0.8, text: 'a' }],
    compare: { query: 'q', hits: [{ index: 20, score: 0.7, rank: 5 }, { index: 700, score: 0.6, rank: 40 }] }
  };
  const traits = traitsOf(readRanking(some), DEFAULTS);
  assert.deepEqual(traits['_view'], {
    query: 'q', instruction: '', model: '', total: 1000, order: [700, 20], scores: { 20: 0.8, 700: 0.9 }, rank: { 700: 0, 20: 1 }, truncated: [700], tokens: 0, seconds: 0
  });
  assert.deepEqual(traits['_documents'], { 20: { text: 'a', same: null, about: {} }, 700: { text: 'a', same: 20, about: {} } });
  assert.deepEqual(traits['labels'], { 700: 2 });
  assert.deepEqual(traits['selection'], [700]);
  const other = traits['_other'] as Record<string, unknown>;
  assert.deepEqual([other['order'], other['rank']], [[20, 700], { 20: 5, 700: 40 }]);
  assert.equal(missing(some), 998);
});

void test('positions that are missing from a file without a total are documents that are not listed', () => {
  const view = traitsOf({ version: 1, query: 'q', hits: [{ index: 5, score: 0.9, text: 'a' }, { index: 0, score: 0.8, text: 'b' }] }, DEFAULTS)['_view'] as Record<string, unknown>;
  assert.deepEqual([view['total'], view['order'], view['rank']], [6, [5, 0], { 5: 0, 0: 1 }]);
});

void test('of a very long file the page gets the first ones, with their places among all', () => {
  const count = MOST_SHOWN + 2;
  const hits = Array.from({ length: count }, (_, place) => ({ index: count - 1 - place, score: 1 - place / count, text: `t${place}` }));
  const compare = { query: 'q', hits: [...hits].reverse() };
  const traits = traitsOf(readRanking({ version: 1, query: 'q', total: count, hits, compare }), DEFAULTS);
  const view = traits['_view'] as { total: number; order: number[] };
  assert.deepEqual([view.total, view.order.length, view.order[0]], [count, MOST_SHOWN, count - 1]);
  assert.equal(Object.keys(traits['_documents'] as object).length, MOST_SHOWN);
  const other = traits['_other'] as { order: number[]; rank: Record<number, number> };
  assert.deepEqual([other.order[0], other.rank[2], other.rank[count - 1]], [2, 2, count - 1]);
});

void test('a comparison ranks the same documents', () => {
  const compare = { query: 'copy', hits: [{ index: 1, score: 0.7 }, { index: 0, score: 0.6 }, { index: 2, score: 0.2 }], kendall_tau: -1 };
  const other = traitsOf(readRanking({ ...ranking, compare }), DEFAULTS)['_other'] as Record<string, unknown>;
  assert.deepEqual(other['order'], [1, 0, 2]);
  assert.deepEqual(other['scores'], [0.6, 0.7, 0.2]);
  assert.equal(other['tau'], -1);
  for (const hits of [[], [{ index: 1, score: 1 }], [{ index: 1, score: 1 }, { index: 1, score: 1 }, { index: 0, score: 1 }]]) {
    assert.throws(() => readRanking({ ...ranking, compare: { query: 'x', hits } }), Unreadable);
  }
});

void test('defaults are never shared between two views', () => {
  const first = traitsOf(ranking, { ...DEFAULTS, presets: { a: 'b' } });
  const second = traitsOf(ranking, { ...DEFAULTS, presets: { a: 'b' } });
  assert.notEqual(first['presets'], second['presets']);
});

const wrong: [unknown, RegExp][] = [
  [null, /not a JSON object/],
  [[], /not a JSON object/],
  [{ query: 'x', hits: [] }, /no "version"/],
  [{ ...ranking, version: 2 }, /versions up to 1/],
  [{ version: 1, hits: [] }, /no "query"/],
  [{ version: 1, query: 'x' }, /no list of "hits"/],
  [{ version: 1, query: 'x', hits: [{ index: 0, score: 1, text: 'a' }, { index: -1, score: 1, text: 'a' }] }, /Hit 1 /],
  [{ version: 1, query: 'x', hits: [{ index: 0, score: '1', text: 'a' }] }, /Hit 0 /],
  [{ version: 1, query: 'x', hits: [{ index: 0, score: 1, text: 'a' }, { index: 0, score: 1, text: 'b' }] }, /same "index"/]
];

for (const [value, why] of wrong) {
  void test(`refused with its reason: ${why.source}`, () => {
    assert.throws(() => readRanking(value), (error: unknown) => error instanceof Unreadable && why.test(error.message));
  });
}
