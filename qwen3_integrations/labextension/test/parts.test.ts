import assert from 'node:assert/strict';
import test from 'node:test';

import { withCode } from '../src/source.js';
import { statusWords } from '../src/words.js';
import { Traits } from '../src/traits.js';

void test('code replaces an empty cell', () => {
  assert.deepEqual(withCode(' \n', 1, 'a = 1'), { source: 'a = 1', end: 5 });
});

void test('code goes to the cursor, on lines of its own', () => {
  assert.deepEqual(withCode('x = 1', 5, 'a'), { source: 'x = 1\na', end: 7 });
  assert.deepEqual(withCode('x = 1\ny = 2', 6, 'a'), { source: 'x = 1\na\ny = 2', end: 7 });
  assert.deepEqual(withCode('x = 1', 0, 'a'), { source: 'a\nx = 1', end: 1 });
  assert.deepEqual(withCode('x = 1\n', 5, 'a'), { source: 'x = 1\na\n', end: 7 });
});

const server = { name: 'a', task: 'embed' as const, model: 'm', program: 'p', url: 'u', state: 'ready', up: '', keep_running: false, owned: true, owner_pid: 1, running: 0, waiting: 0, panel: null, fraction: null, detail: '', first_error: '' };
const start = { panel: 'p', task: 'embed' as const, model: 'm', state: 'downloading', fraction: null, detail: '', first_error: '' };
const gpu = { name: 'GPU 0 (H200)', total_bytes: 141 * 2 ** 30, used_bytes: 41 * 2 ** 30, total: '', used: '', use: 0.5, curves: { memory: [], use: [] } };

void test('the status bar counts servers and the memory of the GPUs', () => {
  const nothing = { servers: [], starts: [], devices: [], problem: '', remote_kernels: '' };
  assert.equal(statusWords(nothing), 'Qwen3: 0 servers');
  assert.equal(statusWords({ ...nothing, servers: [server], devices: [{ ...gpu, name: 'this machine' }] }), 'Qwen3: 1 server');
  const two = { ...nothing, servers: [server, { ...server, state: 'loading' }], starts: [start, { ...start, state: 'failed' }], devices: [gpu, gpu] };
  assert.equal(statusWords(two), 'Qwen3: 1 server · 2 starting · GPU 82 of 282 GiB');
});

void test('traits tell of changes, and of nothing else', () => {
  const traits = new Traits({ a: 1, b: 2 });
  const seen: string[] = [];
  const call = (): void => { seen.push('a'); };
  traits.on('change:a change:b', call);
  traits.set('a', 1);
  traits.set({ a: 2, b: 2 });
  assert.deepEqual(seen, ['a']);
  traits.off('change:a', call);
  traits.set('a', 3);
  assert.deepEqual(seen, ['a']);
  assert.equal(traits.get('a'), 3);
});
