import type { IOverview } from './api.js';

/** The words of the status bar: how many servers run, and the memory of the GPUs. */
export function statusWords({ servers, starts, devices }: IOverview): string {
  const ready = servers.filter(one => one.state === 'ready').length;
  const starting = servers.length - ready + starts.filter(one => one.state !== 'failed').length;
  const count = ready === 1 ? '1 server' : `${ready} servers`;
  const gpus = devices.filter(one => one.name.startsWith('GPU'));
  const gib = (bytes: number): string => (bytes / 2 ** 30).toFixed(0);
  const sum = (name: 'used_bytes' | 'total_bytes'): number => gpus.reduce((bytes, one) => bytes + one[name], 0);
  const memory = gpus.length ? `GPU ${gib(sum('used_bytes'))} of ${gib(sum('total_bytes'))} GiB` : '';
  return [`Qwen3: ${count}`, starting ? `${starting} starting` : '', memory].filter(Boolean).join(' · ');
}
