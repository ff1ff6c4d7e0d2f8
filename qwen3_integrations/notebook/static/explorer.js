// The explorer: header, search and query, four views in tabs, and a panel with the focused text and its nearest texts.

const VIEWS = [["map", "Map"], ["similarity", "Similarity"], ["dimensions", "Dimensions"], ["health", "Health"]];
const number = (value) => value.toLocaleString("en");
const counted = (count, what) => `${number(count)} ${what}${count === 1 ? "" : "s"}`;

function render({ model, el }) {
  const own = `q3-${Math.random().toString(36).slice(2)}`;
  const root = h("div", { class: "q3 q3-explorer", role: "group", "aria-label": "Embedding explorer" });
  const endings = [];
  const on = (names, draw) => endings.push(follow(model, names, draw));
  const textOf = (index) => model.get("_texts")[index] ?? "";
  const nameIn = (groups, index) => groups.names?.[groups.of[index]] ?? null;
  const groupOf = (index) => nameIn(model.get("_groups"), index) ?? nameIn(model.get("_clusters"), index);
  const focus = (index) => put(model, "focused", index);
  el.append(root);

  if (!model.get("_facts").count) {
    root.append(h("h3", {}, "Embeddings"), h("p", { class: "q3-soft q3-note" }, "There are no texts."));
    return () => root.remove();
  }

  const lines = stateLines(model);
  const map = mapView({ model, root, on, own, textOf, groupOf });
  const heat = heatMap({ model, textOf, focus });
  const curve = recallChart({ model });
  const health = healthView({ model, focus, textOf, on });
  const panels = { map: map.element, similarity: heat.element, dimensions: curve.element, health: health.element };
  on(["_heat", "view"], () => { if (model.get("view") === "similarity") heat.draw(); }); // up to 3,600 cells are drawn only while they are visible
  on(["_recall", "dimensions"], curve.draw);

  root.append(
    headOf({ model, on, lines }),
    toolsOf({ model, on, own, focus }),
    tabsOf({ model, on, own }),
    h("div", { class: "q3-body" }, h("div", { class: "q3-views" }, VIEWS.map(([name]) => panelOf({ model, on, own, name, content: panels[name] }))),
      sideOf({ model, root, on, textOf, groupOf, focus, toggle: map.toggle })),
    lines.error,
  );
  // A host may lose what Python sent between the first state and the moment at which it listened (seen in Voila): ask for it once more.
  if (!model.get("ready")) sendAction(model, "state");
  endings.push(lines.end, map.end, watchKernel(model, el, root, "The map, the charts and this text stay; search, query and nearest texts need the kernel."));
  return () => { endings.forEach((end) => end()); root.remove(); };
}

/** Title, facts, the present work, and the buttons to cancel and to continue it. */
function headOf({ model, on, lines }) {
  const facts = h("span", { class: "q3-soft q3-num" });
  const cancel = h("button", { type: "button", onclick: () => sendAction(model, "cancel") }, "Cancel");
  const go = h("button", { type: "button", onclick: () => sendAction(model, "go") }, "Go on");
  on(["_facts"], () => {
    const { count, widths, model: name } = model.get("_facts");
    facts.textContent = [counted(count, "text"), widths.length ? counted(widths[widths.length - 1], "dimension") : null, name].filter(Boolean).join(" · ");
  });
  on(["busy", "ready", "error"], () => {
    cancel.hidden = !model.get("busy");
    go.hidden = Boolean(model.get("busy")) || model.get("ready");
    go.textContent = model.get("error") ? "Try again" : "Go on";
  });
  for (const button of [cancel, go]) button.dataset.needs = "kernel";
  return h("div", { class: "q3-row q3-head" }, h("h3", {}, "Embeddings"), facts, h("span", { class: "q3-grow" }), lines.busy, cancel, go);
}

/** The search field (highlights texts) and the query field (the query is embedded). */
function toolsOf({ model, on, own, focus }) {
  const search = h("input", { type: "search", id: `${own}-search`, placeholder: "words in the texts", spellcheck: "false" });
  const found = h("span", { class: "q3-soft q3-num", role: "status", "aria-live": "polite" });
  let waiting = 0;
  search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => put(model, "search", search.value), 120); });
  search.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && search.value) { search.value = ""; put(model, "search", ""); }
    else if (event.key === "Enter") {
      const matches = model.get("_found");
      if (matches.length) focus(matches.find((index) => index > (model.get("focused") ?? -1)) ?? matches[0]);
    } else return;
    event.preventDefault();
  });
  on(["search", "_found"], () => {
    if (document.activeElement !== search && search.getRootNode().activeElement !== search) search.value = model.get("search");
    found.textContent = model.get("search").trim() ? `${number(model.get("_found").length)} found` : "";
  });

  const query = h("input", { type: "text", id: `${own}-query`, placeholder: "a question; its nearest texts are shown", spellcheck: "false" });
  const clear = h("button", { type: "button", "aria-label": "Remove the query", onclick: () => { query.value = ""; sendAction(model, "query", { text: "" }); } }, "×");
  const find = () => sendAction(model, "query", { text: query.value });
  query.addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.isComposing) find(); }); // forms are not submitted in JupyterLab
  const form = h("div", { class: "q3-field" },
    h("label", { for: query.id }, "Query"), query, clear, h("button", { type: "button", class: "q3-main", onclick: find }, "Find"));
  on(["query"], () => { query.value = model.get("query"); clear.hidden = !model.get("query"); });
  on(["_facts"], () => {
    const { asks, instruction } = model.get("_facts");
    form.hidden = !asks;
    query.title = instruction ? `Embedded with the instruction: ${instruction}` : "Embedded without an instruction";
  });
  return h("div", { class: "q3-tools", "data-needs": "kernel" }, h("div", { class: "q3-field" }, h("label", { for: search.id }, "Search"), search, found), form);
}

function tabsOf({ model, on, own }) {
  const tabs = VIEWS.map(([name, label]) => h("button", { type: "button", role: "tab", id: `${own}-tab-${name}`, "aria-controls": `${own}-${name}`, "data-label": label, onclick: () => put(model, "view", name) }, label));
  const list = h("div", { class: "q3-tabs", role: "tablist", "aria-label": "Views", ...OWN_KEYS }, tabs);
  list.addEventListener("keydown", (event) => {
    const at = VIEWS.findIndex(([name]) => name === model.get("view"));
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: VIEWS.length - 1 }[event.key];
    if (to === undefined) return;
    const next = (to + VIEWS.length) % VIEWS.length;
    put(model, "view", VIEWS[next][0]);
    tabs[next].focus();
    event.preventDefault();
  });
  on(["view"], () => tabs.forEach((tab, at) => {
    const chosen = VIEWS[at][0] === model.get("view");
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
  }));
  on(["_health"], () => {
    const { nonFinite, zero, constant, pairs } = model.get("_health");
    const notes = nonFinite ? [nonFinite.count, zero.count, constant.count, pairs?.above ?? 0].filter(Boolean).length : 0;
    tabs[3].replaceChildren("Health", notes ? h("span", { class: "q3-badge" }, notes) : "");
    tabs[3].setAttribute("aria-label", notes ? `Health, ${counted(notes, "note")}` : "Health");
  });
  return list;
}

function panelOf({ model, on, own, name, content }) {
  const early = h("p", { class: "q3-soft q3-early" });
  const panel = h("div", { role: "tabpanel", id: `${own}-${name}`, "aria-labelledby": `${own}-tab-${name}` }, early, content);
  const needs = { map: ["_map", "points"], similarity: ["_heat", "indices"], dimensions: ["_recall", "widths"], health: ["_health", "count"] }[name];
  on(["view"], () => { panel.hidden = model.get("view") !== name; });
  on([needs[0], "busy"], () => {
    const there = model.get(needs[0])[needs[1]] !== undefined;
    early.hidden = there;
    content.classList.toggle("q3-gone", !there);
    early.textContent = model.get("busy") ? "Not available yet: it is being computed." : "Stopped before this was computed.";
  });
  return panel;
}

/** The focused text, or the query, and its nearest texts. */
function sideOf({ model, root, on, textOf, groupOf, focus, toggle }) {
  const title = h("h4");
  const select = h("button", { type: "button", onclick: () => toggle(model.get("focused")) });
  const back = h("button", { type: "button", "aria-label": "Close this text", onclick: () => { focus(null); root.querySelector('[role="tab"][aria-selected="true"]').focus(); } }, "×");
  const text = h("div", { class: "q3-text", tabindex: "0", role: "region", "aria-label": "The text in focus" });
  const words = h("div", { class: "q3-soft q3-note q3-num" });
  const list = h("ol", { class: "q3-near", "aria-label": "Nearest texts", ...OWN_KEYS });
  const head = h("div", { class: "q3-row q3-side-head" }, title, h("span", { class: "q3-grow" }), select, back);
  const behind = h("div", { class: "q3-soft q3-note" });
  const hint = h("p", { class: "q3-soft q3-hint" }, "Choose a text, in the map or anywhere else, to see its nearest texts here.");
  const side = h("aside", { class: "q3-side", "aria-label": "Text in focus" }, hint, head, text, behind, words, list);
  list.addEventListener("keydown", (event) => {
    const rows = [...list.querySelectorAll("button")];
    const at = rows.indexOf(event.target);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    rows[Math.min(Math.max(to, 0), rows.length - 1)].focus();
    event.preventDefault();
  });

  on(["focused", "selection"], () => {
    const index = model.get("focused");
    select.hidden = back.hidden = index === null;
    const is = index !== null && model.get("selection").includes(index);
    select.textContent = is ? "Unselect" : "Select";
  });
  on(["_nearest", "_texts"], () => {
    const { of, text: whole, rows = [], kept, k, sound } = model.get("_nearest");
    const something = of !== undefined && Boolean(whole || of !== null);
    hint.hidden = something;
    for (const part of [head, text, behind, words, list]) part.hidden = !something;
    if (!something) return;
    const { instruction } = model.get("_facts");
    behind.hidden = of !== null;
    behind.textContent = instruction ? `With the instruction “${instruction}”` : "Without an instruction";
    const widths = model.get("_facts").widths, width = model.get("dimensions"), full = widths[widths.length - 1];
    const cut = width < full;
    const group = of === null ? null : groupOf(of);
    title.replaceChildren(of === null ? "Query" : `Text ${of + 1}`, ...(group ? [h("span", { class: "q3-soft" }, ` ${group}`)] : []));
    text.textContent = whole || "(empty)";
    words.textContent = sound === false ? "Its vector is not finite, or zero: it has no neighbours."
      : !k ? "There is no other text."
      : cut ? `${kept} of ${k} nearest texts are kept at ${number(width)} dimensions` : `${counted(k, "nearest text")} by cosine`;
    list.classList.toggle("q3-cut", cut);
    const columns = rows.length ? h("li", { class: "q3-near-head q3-soft", "aria-hidden": "true" }, h("span", {}, "text"), h("span", {}, cut ? number(full) : "cosine"), cut ? h("span", {}, number(width)) : "") : "";
    const parts = cut ? [["kept", "", "kept"], ["lost", "− ", `lost at ${number(width)}`], ["gained", "+ ", `gained at ${number(width)}`]] : [["kept", "", ""]];
    const inList = list.contains(list.getRootNode().activeElement);
    list.replaceChildren(columns, ...parts.flatMap(([fate, sign, said]) => {
      const those = rows.filter((row) => row.fate === fate);
      return [said && those.length ? h("li", { class: `q3-fate q3-${fate}` }, `${sign}${those.length} ${said}`) : "", ...those.map(rowOf)];
    }));
    if (inList) text.focus(); // the chosen row was replaced

    function rowOf(row) {
      const label = `Text ${row.index + 1}: ${textOf(row.index)}; cosine ${three(row.cosine)}${cut ? `, at ${width} dimensions ${three(row.cut)}, ${row.fate}` : ""}`;
      return h("li", {}, h("button", { type: "button", "aria-label": label, title: textOf(row.index), onclick: () => focus(row.index) },
        h("span", { class: "q3-line" }, h("span", { class: "q3-soft q3-num" }, row.index + 1), " ", textOf(row.index)),
        h("span", { class: "q3-num" }, three(row.cosine)),
        cut ? h("span", { class: "q3-num" }, three(row.cut)) : null));
    }
  });
  return side;
}

export default { render };
