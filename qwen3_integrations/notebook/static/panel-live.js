// A server that is ready: its address, its load, and code for its clients.

/** Its address, its key, and the process with which it ends. */
function address({ model, on, view, ends }) {
  const url = h("code", { class: "q3-grow" });
  const key = h("code", { class: "q3-grow" });
  const copyKey = h("button", { type: "button", onclick: () => sendAction(model, "key", { view }) }, "Copy key");
  const said = async (content) => {
    if (content.view !== view) return;
    const done = Boolean(content.key) && (await copyText(content.key));
    copyKey.textContent = done ? "Copied" : "Could not copy";
    setTimeout(() => { copyKey.textContent = "Copy key"; }, 1500);
  };
  model.on("msg:custom", said);
  ends.push(() => model.off("msg:custom", said));
  const keep = h("input", { type: "checkbox", id: `${view}-keep`, onchange: () => sendAction(model, "keep", { on: keep.checked }) });
  const life = h("span", { class: "q3-soft" });
  const box = h("section", { class: "q3-address", "aria-label": "Address" },
    h("div", { class: "q3-row" }, h("span", { class: "q3-label" }, "Address"), url, copyButton("Copy", () => model.get("info").address)),
    h("div", { class: "q3-row" }, h("span", { class: "q3-label" }, "Key"), key, copyKey),
    h("div", { class: "q3-row" }, h("span", { class: "q3-label" }, "Life"), h("label", { class: "q3-row", for: keep.id }, keep, "Keep running"), life));
  on(["info", "load", "state"], () => {
    const { info, shown } = { info: model.get("info"), shown: model.get("load") };
    box.hidden = !isReady(model);
    if (box.hidden) return;
    url.textContent = info.address;
    key.textContent = { known: "••••••••••••", none: "it asks for none", unknown: "it asks for one that can't be read here" }[info.key];
    copyKey.hidden = info.key !== "known";
    keep.checked = info.keep_running;
    life.textContent = info.keep_running ? "until somebody stops it" : info.owned ? "ends with this kernel" : `ends with process ${shown.owner_pid ?? "that started it"}`;
  });
  return box;
}

/** Its load. */
function meters({ model, on }) {
  const tile = (label) => {
    const value = h("dd", { class: "q3-num" });
    return { value, box: h("div", { class: "q3-tile" }, h("dt", { class: "q3-label" }, label), value) };
  };
  const tiles = { health: tile("Health"), running: tile("In flight"), waiting: tile("Queue"), requests: tile("Answered"), rate: tile("Tokens per second") };
  const line = svg("polyline", { class: "q3-line", "vector-effect": "non-scaling-stroke" });
  const area = svg("polygon", { class: "q3-area" });
  const curve = svg("svg", { class: "q3-curve", viewBox: `0 0 ${RATES - 1} 30`, preserveAspectRatio: "none", role: "img" }, area, line);
  const top = h("span", { class: "q3-soft q3-num" });
  tiles.rate.box.classList.add("q3-wide");
  tiles.rate.box.append(h("dd", { class: "q3-trend" }, top, curve));
  const box = h("section", { "aria-label": "Load" }, h("dl", { class: "q3-tiles" }, ...Object.values(tiles).map((each) => each.box)));
  on(["load", "state"], () => {
    const load = model.get("load");
    box.hidden = !isReady(model) || load.healthy === undefined;
    if (box.hidden) return;
    tiles.health.value.textContent = load.healthy ? "good" : "no answer";
    tiles.health.box.classList.toggle("q3-ill", !load.healthy);
    for (const name of ["running", "waiting", "requests"]) tiles[name].value.textContent = count(load[name]);
    const most = Math.max(...load.rates, 0);
    const points = load.rates.map((rate, index) => [RATES - load.rates.length + index, 28 - (26 * rate) / (most || 1)]);
    line.setAttribute("points", points.map((point) => point.join(",")).join(" "));
    area.setAttribute("points", points.length ? [[points[0][0], 30], ...points, [RATES - 1, 30]].map((point) => point.join(",")).join(" ") : "");
    tiles.rate.value.textContent = count(load.rates.at(-1));
    top.textContent = most ? `most ${count(most)}` : "";
    curve.setAttribute("aria-label", load.rates.length ? `the last ${load.rates.length} looks: now ${count(load.rates.at(-1))}, most ${count(most)}` : "nothing yet");
  });
  return box;
}

/** Code for its clients, in tabs; arrow keys select the next tab. */
function use({ model, on, view }) {
  let chosen = "curl";
  const code = h("pre", { id: `${view}-code`, role: "tabpanel", tabindex: 0 });
  const tabs = h("div", { role: "tablist", "aria-label": "Clients", class: "q3-tabs" });
  const names = () => Object.keys(CLIENTS).filter((name) => name in (model.get("info").snippets ?? {}));
  const draw = () => {
    if (!names().includes(chosen)) [chosen] = names();
    tabs.replaceChildren(...names().map((name) => h("button", {
      type: "button", role: "tab", id: `${view}-${name}`, "aria-selected": String(name === chosen), "aria-controls": code.id, tabindex: name === chosen ? 0 : -1,
      onclick: () => choose(name),
    }, CLIENTS[name])));
    code.textContent = model.get("info").snippets?.[chosen] ?? "";
    code.setAttribute("aria-labelledby", `${view}-${chosen}`);
  };
  const choose = (name) => { chosen = name; draw(); tabs.querySelector("[aria-selected=true]").focus(); };
  tabs.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const all = names();
    choose(all[(all.indexOf(chosen) + step + all.length) % all.length]);
  });
  const box = h("section", { "aria-label": "Use it" }, heading("Use it", tabs, h("span", { class: "q3-grow" }), copyButton("Copy", () => code.textContent)), code);
  on(["info", "state"], () => { box.hidden = !isReady(model); draw(); });
  return box;
}
