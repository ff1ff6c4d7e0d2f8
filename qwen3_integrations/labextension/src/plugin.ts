import { ILabShell, ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, InputDialog, Notification } from '@jupyterlab/apputils';
import { ILauncher } from '@jupyterlab/launcher';
import { INotebookTracker } from '@jupyterlab/notebook';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { IStatusBar } from '@jupyterlab/statusbar';
import type { ReadonlyPartialJSONObject } from '@lumino/coreutils';

import { Api, type IServer, problemOf, type Task } from './api.js';
import { CLIENTS } from './cards.js';
import { icon } from './icon.js';
import { insertCode } from './insert.js';
import { inspect, rankingIn } from './inspect.js';
import { Servers } from './servers.js';
import { SidePanel } from './side.js';
import { StatusItem } from './status.js';

const ID = 'qwen3-integrations:plugin';
const CATEGORY = 'Qwen3';

const commands = {
  open: 'qwen3:open-servers',
  create: 'qwen3:new-server',
  insert: 'qwen3:insert-code',
  inspect: 'qwen3:inspect-ranking'
};

/** The client that a command's arguments name. */
const clientOf = (args: ReadonlyPartialJSONObject): string => (typeof args['client'] === 'string' ? args['client'] : 'langchain');

/** Side panel, launcher tile, palette, status bar and toolbar button. Only the front end itself is required: Notebook 7 lacks some places. */
export const plugin: JupyterFrontEndPlugin<void> = {
  id: ID,
  description: 'Starts, watches and stops Qwen3 servers without a kernel, and inserts code for their clients.',
  autoStart: true,
  optional: [ILabShell, ILayoutRestorer, ICommandPalette, ILauncher, INotebookTracker, ISettingRegistry, IStatusBar],
  activate: (
    app: JupyterFrontEnd,
    lab: ILabShell | null,
    restorer: ILayoutRestorer | null,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
    notebooks: INotebookTracker | null,
    settings: ISettingRegistry | null,
    bar: IStatusBar | null
  ) => {
    const api = new Api(app.serviceManager.serverSettings);
    const servers = new Servers(api);
    const insert = async (server: IServer, client: string): Promise<string> => {
      const code = (await api.code(server.name))[client];
      return code === undefined ? `${server.name} has no ${CLIENTS[client] ?? client} client.` : insertCode(notebooks, code);
    };
    const kernel = (): string | undefined => notebooks?.currentWidget?.sessionContext.session?.kernel?.name;
    const side = new SidePanel(api, servers, insert, kernel);
    side.title.label = lab ? '' : 'Qwen3';
    app.shell.add(side, 'left', { rank: 700, type: 'Qwen3 servers' });
    restorer?.add(side, side.id);

    const show = (): void => {
      (app.shell as { expandLeft?: (id?: string) => void }).expandLeft?.(side.id);
      app.shell.activateById(side.id);
    };
    const chosen = async (title: string): Promise<IServer | null> => {
      await servers.refresh();
      const ready = servers.now.servers.filter(one => one.state === 'ready');
      if (ready.length <= 1) {
        return ready[0] ?? null;
      }
      const answer = await InputDialog.getItem({ title, items: ready.map(one => one.name) });
      return ready.find(one => one.name === answer.value) ?? null;
    };

    app.commands.addCommand(commands.open, {
      label: 'Qwen3 servers',
      caption: 'Start, watch and stop Qwen3 servers',
      icon: args => (args['isPalette'] ? undefined : icon),
      execute: show
    });
    app.commands.addCommand(commands.create, {
      label: args => (args['task'] === 'rerank' ? 'New Qwen3 rerank server' : 'New Qwen3 embedding server'),
      icon: args => (args['isPalette'] ? undefined : icon),
      execute: async args => {
        show();
        await side.create((args['task'] as Task | undefined) ?? 'embed');
      }
    });
    app.commands.addCommand(commands.insert, {
      label: args => `Insert ${CLIENTS[clientOf(args)] ?? ''} code for a Qwen3 server`,
      isEnabled: () => Boolean(notebooks?.currentWidget),
      execute: async args => {
        const client = clientOf(args);
        try {
          const server = await chosen(`Insert ${CLIENTS[client] ?? client} code for`);
          if (server) {
            await insert(server, client);
          } else if (servers.now.servers.length === 0 || servers.problem) {
            Notification.info(servers.problem || 'No Qwen3 server is ready on this machine. Start one in the panel "Qwen3 servers".');
          }
        } catch (error) {
          Notification.error(problemOf(error));
        }
      }
    });
    app.commands.addCommand(commands.inspect, {
      label: 'Inspect ranking',
      caption: 'Inspect ranking: show that of the active cell, or of the nearest cell above, beside the notebook',
      icon: args => (args['isPalette'] ? undefined : icon),
      isEnabled: () => Boolean(notebooks?.currentWidget),
      execute: async () => {
        const panel = notebooks?.currentWidget;
        const output = panel ? rankingIn(panel) : null;
        if (panel && output) {
          await inspect(app, lab, panel, output);
        } else {
          Notification.info('This notebook has no output with a ranking. End a cell with the result of `reranker.rank(...)`, and run it.', { autoClose: 8000 });
        }
      }
    });

    for (const command of [commands.open, commands.inspect]) {
      palette?.addItem({ command, category: CATEGORY, args: { isPalette: true } });
    }
    for (const task of ['embed', 'rerank']) {
      palette?.addItem({ command: commands.create, category: CATEGORY, args: { isPalette: true, task } });
    }
    for (const client of Object.keys(CLIENTS)) {
      palette?.addItem({ command: commands.insert, category: CATEGORY, args: { isPalette: true, client } });
    }
    launcher?.add({ command: commands.open, category: 'Other', rank: 10 });

    const item = new StatusItem(servers, () => void app.commands.execute(commands.open));
    bar?.registerStatusItem(ID, { item, align: 'left', rank: 900 });
    void settings
      ?.load(ID)
      .then(loaded => {
        const read = (): void => {
          servers.seconds = loaded.get('refreshSeconds').composite as number;
          item.setHidden(!(loaded.get('showStatus').composite as boolean));
        };
        loaded.changed.connect(read);
        read();
      })
      .catch((error: unknown) => {
        console.warn(`The settings of ${ID} can't be read: ${problemOf(error)}`);
      });
  }
};
