import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

export type Task = 'embed' | 'rerank';

/** A running server in the list. */
export interface IServer {
  name: string;
  task: Task;
  model: string;
  program: string;
  url: string;
  state: string;
  up: string;
  keep_running: boolean;
  owned: boolean;
  owner_pid: number;
  running: number | null;
  waiting: number | null;
  panel: string | null;
  fraction: number | null;
  detail: string;
  first_error: string;
}

/** A start that has no server yet, or that failed. */
export interface IStart {
  panel: string;
  task: Task;
  model: string;
  state: string;
  fraction: number | null;
  detail: string;
  first_error: string;
}

/** A GPU, or the machine's main memory where there is no GPU. */
export interface IDevice {
  name: string;
  total_bytes: number;
  used_bytes: number;
  total: string;
  used: string;
  use: number | null;
  curves: { memory: number[]; use: number[] };
}

export interface IOverview {
  servers: IServer[];
  starts: IStart[];
  devices: IDevice[];
  problem: string;
  remote_kernels: string;
}

/** Thrown for a panel that another page has closed, or that an earlier process of Jupyter Server had. */
export class Closed extends Error {}

const CLOSED = 'This panel was closed elsewhere, or Jupyter Server was started again.';

export interface IChanges {
  revision: number;
  traits: Record<string, unknown>;
}

/** Code for a cell, by client: `langchain`, `llama_index`, `openai`, `curl`. */
export type Code = Record<string, string>;

/** An answer of the server extension that is not a success; the message is for people. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string
  ) {
    super(message);
  }
}

/** The routes of the server extension, below Jupyter's base URL, with Jupyter's login. */
export class Api {
  constructor(private readonly _settings: ServerConnection.ISettings) {}

  overview(): Promise<IOverview> {
    return this._ask('servers');
  }

  stop(server: string): Promise<unknown> {
    return this._ask(`servers/${encodeURIComponent(server)}`, { method: 'DELETE' });
  }

  code(server: string): Promise<Code> {
    return this._ask(`servers/${encodeURIComponent(server)}/code`);
  }

  /** The panel of a server, or a new form where no server is named. */
  async open(words: { server?: string; task?: Task; kernel?: string }): Promise<string> {
    return (await this._ask<{ panel: string }>('panels', { method: 'POST', body: JSON.stringify(words) })).panel;
  }

  async changes(panel: string, since: number): Promise<IChanges> {
    const answer = await this._ask<IChanges | { closed: true }>(`panels/${panel}?since=${since}`);
    if ('closed' in answer) {
      throw new Closed(CLOSED);
    }
    return answer;
  }

  close(panel: string): Promise<unknown> {
    return this._ask(`panels/${panel}`, { method: 'DELETE' });
  }

  /** Do something in a panel; the replies are for this page alone. */
  async act(panel: string, content: Record<string, unknown>): Promise<Record<string, unknown>[]> {
    const words = { method: 'POST', body: JSON.stringify(content) };
    const answer = await this._ask<{ replies: Record<string, unknown>[] } | { closed: true }>(`panels/${panel}/actions`, words);
    if ('closed' in answer) {
      throw new Closed(CLOSED);
    }
    return answer.replies;
  }

  private async _ask<T>(path: string, init: RequestInit = {}): Promise<T> {
    const url = URLExt.join(this._settings.baseUrl, 'qwen3', path);
    const answer = await ServerConnection.makeRequest(url, { cache: 'no-store', ...init }, this._settings);
    const text = await answer.text();
    if (!answer.ok) {
      throw new Refused(answer.status, messageIn(text) || `${answer.status} ${answer.statusText}`);
    }
    return JSON.parse(text) as T;
  }
}

function messageIn(text: string): string {
  try {
    const { message } = JSON.parse(text) as { message?: unknown };
    return typeof message === 'string' ? message : '';
  } catch {
    return '';
  }
}

/** Why a request failed, as a sentence for people. */
export function problemOf(error: unknown): string {
  if (error instanceof Refused && error.status === 404) {
    return (
      'The server extension does not answer. Install qwen3-integrations[notebook] where Jupyter Server runs, ' +
      'check `jupyter server extension list`, and restart Jupyter.'
    );
  }
  if (error instanceof Refused && [401, 403].includes(error.status)) {
    return 'The login has ended. Reload the page.';
  }
  return error instanceof ServerConnection.NetworkError ? 'Jupyter Server does not answer.' : error instanceof Error ? error.message : String(error);
}
