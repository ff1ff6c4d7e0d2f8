// RankInspector: the header, the instruction, the controls and the summaries around the sheet.

const DRAWN = ["_view", "_other", "_metrics", "threshold", "top_n", "sort", "reverse", "scale", "selection", "labels"];
const MOVERS = 5;

function render({ model, el }) {
  const isLabelled = () => Object.values(model.get("labels")).some((label) => label !== null);
  let labelling = isLabelled();
  const sheet = makeSheet(model, () => labelling, () => controls.search.value);
  const about = h("div", { class: "q3-about" });
  const summaries = h("div", { class: "q3-summaries" });
  const controls = makeControls(model, (on) => { labelling = on ?? labelling; draw(); }, labelling);
  const run = model.get("_can_run") ? makeRun(model) : null;
  const unable = model.get("_live") && !run ? withoutReranker(model) : null;
  const folds = makeFolds();
  const lines = stateLines(model);
  const note = h("span", { class: "q3-soft", role: "status" });
  const state = h("div", { class: "q3-state" }, lines.busy, note);
  run?.actions.append(state);
  if (run) folds.add(run.element);
  const root = h("section", { class: "q3 q3-inspector", "data-lm-suppress-shortcuts": "true", "aria-label": "Rank inspector" },
    about, run?.element, unable, controls.element, summaries, sheet.element, h("p", { class: "q3-soft q3-hint" }), lines.error);
  el.append(root);

  function draw() {
    const facts = factsOf(model);
    drawAbout(about, facts, run);
    const shown = factsOf(model, controls.search.value);
    controls.found(shown);
    controls.update(facts);
    summaries.replaceChildren(
      ...(facts.other ? [folds.add(comparison(model, facts, sheet), "comparison")] : []),
      ...(labelling ? [folds.add(metrics(model, facts), "metrics")] : []),
    );
    root.querySelector(".q3-hint").textContent = facts.here === 0 ? "No documents were ranked." : shown.count === 0 ? "No document has these words."
      : `↑ ↓ move · Enter reads the whole document · Space selects${labelling && model.get("_live") ? " · 0 to 9 set the relevance, Delete clears it" : ""}`;
    sheet.update();
  }
  const ends = [
    follow(model, ["labels"], () => { if (isLabelled() && !labelling) { labelling = true; controls.showLabelling(); } }),
    follow(model, DRAWN, draw),
    follow(model, ["_note", "busy"], () => { note.textContent = model.get("busy") ? "" : model.get("_note"); }),
    lines.end, sheet.end, run?.end, folds.watch(root),
    watchKernel(model, el, root, "Reading, sorting and the threshold still work here; another run does not, and Python no longer sees what you choose."),
  ];
  return () => ends.forEach((end) => end?.());
}

/**
 * Parts above the rows that a narrow notebook folds to one line, so that the first row stays near; a person's own choice is kept.
 * A part is a `details` element; `name` tells it from its later versions.
 */
function makeFolds() {
  const parts = new Map(), chosen = new Map();
  let narrow = false;
  const place = (name) => { parts.get(name).open = chosen.get(name) ?? !narrow; };
  return {
    add(element, name = "run") {
      parts.set(name, element);
      element.querySelector("summary").addEventListener("click", () => chosen.set(name, !element.open));
      place(name);
      return element;
    },
    watch(root) {
      const sizes = new ResizeObserver(() => {
        const now = root.clientWidth > 0 && root.clientWidth < 640;
        if (now !== narrow) { narrow = now; for (const name of parts.keys()) place(name); }
      });
      sizes.observe(root);
      return () => sizes.disconnect();
    },
  };
}

/** In the place of another run, where there is no reranker: what to do about it. */
function withoutReranker(model) {
  const line = "ranking.inspect(reranker=reranker)";
  return h("div", { class: "q3-run", role: "group", "aria-label": "Run again" },
    h("div", { class: "q3-row" }, h("button", { type: "button", disabled: true, title: "This ranking's reranker is gone" }, "Run again"),
      h("span", { class: "q3-soft q3-paste" }, "The reranker of this ranking no longer exists. To try another query or instruction, open one and run ", h("code", {}, line)),
      copyButton("Copy line", () => line)));
}

function drawAbout(about, { view, total, here, documents, truncated }, run) {
  const same = Object.values(documents).filter((document) => document.same !== null).length;
  const words = [
    view.model, `${total.toLocaleString("en")} documents`, here < total ? `the first ${here.toLocaleString("en")} are shown` : null, view.tokens ? `${view.tokens.toLocaleString("en")} tokens` : null, `${view.seconds.toFixed(2)} s`,
    truncated.size ? `${truncated.size} truncated` : null, same ? `${same} duplicate${same === 1 ? "" : "s"}` : null,
  ];
  about.replaceChildren(
    h("h3", {}, view.query),
    h("div", { class: "q3-soft q3-num" }, words.filter(Boolean).join(" · ")),
    run ? "" : h("div", { class: "q3-used-instruction" }, h("span", { class: "q3-soft" }, "Instruction "), view.instruction || "none"),
  );
}

/** The instruction, presets for it, Run again and Cancel. */
function makeRun(model) {
  const box = h("textarea", { rows: 2, "aria-label": "Instruction", spellcheck: "false", value: model.get("instruction") });
  const presets = model.get("presets");
  const choose = h("select", { "aria-label": "Presets" }, h("option", { value: "" }, "Presets…"), ...Object.keys(presets).map((name) => h("option", { value: name }, name)));
  const query = h("input", { type: "text", "aria-label": "Query", spellcheck: "false", value: model.get("_view").query });
  const go = () => { if (!model.get("busy")) sendAction(model, "run", { instruction: box.value, query: query.value }); };
  const stop = () => sendAction(model, "cancel");
  const again = h("button", { type: "button", class: "q3-main", onclick: go, title: "Ctrl+Enter" }, "Run again");
  const cancel = h("button", { type: "button", onclick: stop }, "Cancel");
  const compare = h("button", { type: "button", onclick: () => sendAction(model, "compare", { on: true }) }, "Compare with previous");
  const changed = h("span", { class: "q3-soft" });
  const said = h("span", { class: "q3-soft q3-said" });
  const bar = h("progress", { max: 1, "aria-label": "Progress of the ranking" });
  const done = h("span", { class: "q3-soft q3-num" });
  const progress = h("div", { class: "q3-row q3-progress" }, bar, done);
  const note = () => {
    const { query: asked, instruction } = model.get("_view");
    changed.textContent = box.value === instruction && query.value === asked ? "" : "changed since this ranking";
    said.textContent = model.get("busy") ? `${model.get("busy")}…` : box.value || "none";
  };
  box.addEventListener("input", note);
  query.addEventListener("input", note);
  query.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Enter" && !event.isComposing) { event.preventDefault(); go(); }
    if (event.key === "Escape" && model.get("busy")) stop();
  });
  box.addEventListener("change", () => put(model, "instruction", box.value));
  box.addEventListener("keydown", (event) => {
    event.stopPropagation();  // otherwise the notebook would handle the key
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); go(); }
    if (event.key === "Escape" && model.get("busy")) stop();
  });
  choose.addEventListener("change", () => {
    if (choose.value) { box.value = presets[choose.value]; put(model, "instruction", box.value); note(); }
    choose.value = "";
  });
  const ends = [
    follow(model, ["instruction"], () => { if (box.value !== model.get("instruction")) box.value = model.get("instruction"); note(); }),
    follow(model, ["_progress", "busy"], () => {
      const { done: count = 0, total = 0, left_s: left = null } = model.get("_progress") ?? {};
      progress.hidden = !model.get("busy") || !total;
      bar.value = total ? count / total : 0;
      done.textContent = `${count.toLocaleString("en")} of ${total.toLocaleString("en")}${left === null ? "" : ` · about ${left < 60 ? `${Math.ceil(left)} s` : `${Math.ceil(left / 60)} min`} left`}`;
    }),
    follow(model, ["_view", "busy"], note),  // a new result does not overwrite the text that the user is typing
    follow(model, ["busy", "_previous", "_other"], () => {
      again.disabled = Boolean(model.get("busy"));
      cancel.disabled = !model.get("busy");
      compare.hidden = model.get("_previous") === null || model.get("_other") !== null;
      compare.title = `The previous run, with: ${model.get("_previous")}`;
    }),
  ];
  const actions = h("div", { class: "q3-row" }, again, cancel, compare);
  const element = h("details", { class: "q3-run", "data-needs": "kernel", "aria-label": "Run again" },
    h("summary", { class: "q3-title" }, "Query and instruction ", said),
    h("div", { class: "q3-inner" }, query,
      h("div", { class: "q3-row" }, h("span", { class: "q3-title" }, "Instruction"), changed, h("span", { class: "q3-grow" }), choose), box, actions, progress));
  return { element, actions, end: () => ends.forEach((end) => end()) };
}

/** Threshold, largest number of documents to keep, labelling and copying. */
function makeControls(model, onLabelling, labelling) {
  const slider = h("input", {
    type: "range", min: 0, max: 1, step: 0.01, "aria-label": "Threshold",
    oninput: () => model.set("threshold", Number(slider.value)), onchange: () => model.save_changes() });
  const least = h("output", { class: "q3-num q3-least-value" });
  const kept = h("strong", { class: "q3-num", role: "status" });
  const most = h("input", {
    type: "number", min: 1, step: 1, placeholder: "all", "aria-label": "Keep at most",
    onchange: () => put(model, "top_n", Number(most.value) >= 1 ? Math.floor(Number(most.value)) : null) });
  const label = h("button", { type: "button", "data-needs": "kernel", "aria-pressed": String(labelling), onclick: () => {
    const on = label.getAttribute("aria-pressed") !== "true";
    label.setAttribute("aria-pressed", String(on));
    onLabelling(on);
  } }, "Label relevance");
  const scale = h("select", { "aria-label": "Score axis", title: "Log-odds spread scores near 0 and 1", onchange: () => put(model, "scale", scale.value) },
    h("option", { value: "probability" }, "0 to 1"), h("option", { value: "log_odds" }, "log-odds"));
  let waiting = 0;
  const search = h("input", { type: "search", placeholder: "Search documents", "aria-label": "Search documents", spellcheck: "false",
    oninput: () => { clearTimeout(waiting); waiting = setTimeout(() => onLabelling(null), 120); } });
  const found = h("span", { class: "q3-soft q3-num", role: "status" });
  search.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Escape" && search.value) { search.value = ""; onLabelling(null); }
  });
  const copy = copyButton("Copy as JSON", () => JSON.stringify(asData(model, factsOf(model)), null, 2));
  copy.title = "The selected documents; without a selection, all kept documents";
  const element = h("div", { class: "q3-controls" },
    h("label", { class: "q3-row" }, h("span", { class: "q3-title" }, "Threshold"), slider, least), kept,
    h("label", { class: "q3-row" }, h("span", { class: "q3-title" }, "Keep at most"), most),
    h("label", { class: "q3-row" }, h("span", { class: "q3-title" }, "Score axis"), scale),
    h("span", { class: "q3-row q3-search" }, search, found), h("span", { class: "q3-grow" }), model.get("_live") ? label : null, copy);
  for (const input of [slider, most]) input.addEventListener("keydown", (event) => event.stopPropagation());
  return {
    element,
    search,
    found({ count, here, words }) { found.textContent = words.length ? `${count.toLocaleString("en")} of ${here.toLocaleString("en")}` : ""; },
    update({ threshold, topN, keptCount, total: count, mayKeepMore }) {
      scale.value = model.get("scale");
      slider.value = threshold;
      slider.setAttribute("aria-valuetext", `${three(threshold)}, ${keptCount} of ${count} kept`);
      least.textContent = three(threshold);
      kept.textContent = `${mayKeepMore ? "at least " : ""}${keptCount.toLocaleString("en")} of ${count.toLocaleString("en")} kept`;
      if (most.getRootNode().activeElement !== most) most.value = topN ?? "";
    },
    showLabelling() { label.setAttribute("aria-pressed", "true"); },
  };
}

/** Comparison of two rankings: what A is, how similar they are, and which documents moved most. */
function comparison(model, facts, sheet) {
  const { view, other } = facts;
  const differing = ["query", "model", "instruction"].filter((name) => view[name] !== other[name]);
  const said = (one) => (differing.length ? differing : ["instruction"]).map((name) => one[name] || "none").join(" · ");
  const movers = [...view.order].filter((item) => facts.moved(item) !== 0)
    .sort((a, b) => Math.abs(facts.moved(b)) - Math.abs(facts.moved(a)) || facts.rank[a] - facts.rank[b]).slice(0, MOVERS);
  const mover = (item) => h("button", { type: "button", class: `q3-mover q3-${direction(facts.moved(item))}`, onclick: () => sheet.show(item), title: facts.documents[item].text.slice(0, 200) },
    h("span", { class: "q3-sign", "aria-hidden": "true" }, sign(facts.moved(item))), ` ${named(item)} ${movedInWords(facts.moved(item))}: ${titleOf(facts, item)}`);
  return h("details", { class: "q3-summary q3-comparison", "aria-label": "Comparison" },
    h("summary", {}, h("span", { class: "q3-title" }, "Comparison"), h("span", { class: "q3-soft q3-num" }, ` Kendall tau ${three(other.tau)}`)),
    h("div", { class: "q3-row" },
      model.get("_live") ? h("button", { type: "button", "data-needs": "kernel", onclick: () => sendAction(model, "compare", { on: false }) }, "Stop comparing") : null),
    h("dl", {}, h("dt", {}, "A"), h("dd", {}, said(other)), h("dt", {}, "New"), h("dd", {}, said(view)),
      h("dt", {}, "Kendall tau"), h("dd", { class: "q3-num" }, three(other.tau), h("span", { class: "q3-soft" }, "  1 the same order, 0 unrelated, −1 reversed")),
      h("dt", {}, "Biggest movers"), h("dd", { class: "q3-row" }, ...(movers.length ? movers.map(mover) : ["none: the orders are equal"]))));
}

/** The quality of each order, measured with the labels; where some documents have none, also without those. */
function metrics(model, facts) {
  const k = model.get("k"), listed = model.get("_metrics"), partly = listed.some((one) => one.condensed);
  const number = (value) => h("td", { class: "q3-num" }, three(value));
  const table = (title, figuresOf, judged) => h("table", {},
    partly ? h("caption", {}, title) : null,
    h("thead", {}, h("tr", {}, h("td"), ...[...(judged ? [`Judged@${k}`] : []), `nDCG@${k}`, "MRR", `Hit rate@${k}`].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, ...listed.map((one) => h("tr", {}, h("th", { scope: "row" }, one.order), judged ? h("td", { class: "q3-num" }, `${one.judged} of ${one.seen}`) : null,
      ...["ndcg", "mrr", "hit_rate"].map((name) => number(figuresOf(one)[name]))))));
  const tables = h("div", { class: "q3-tables" }, table("Unjudged count as irrelevant", (one) => one, true), partly ? table("Unjudged left out", (one) => one.condensed) : null);
  const unjudged = listed.filter((one) => one.judged < one.seen);
  const warning = !partly || !unjudged.length ? null
    : `Only ${facts.judged.toLocaleString("en")} of ${facts.total.toLocaleString("en")} documents are judged. An order whose first ${k} are not judged gets low figures where they count as irrelevant, whatever they are worth; “left out” compares the orders of the judged documents alone.`;
  const best = listed.at(-1);
  return h("details", { class: "q3-summary q3-metrics", "aria-label": "Metrics" },
    h("summary", {}, h("span", { class: "q3-title" }, "Metrics"), h("span", { class: "q3-soft q3-num" },
      ` ${facts.judged.toLocaleString("en")} of ${facts.total.toLocaleString("en")} judged${best ? ` · nDCG@${k} ${three(listed[0].ndcg)} → ${three(best.ndcg)}` : ""}`)),
    listed.length ? tables
      : h("p", { class: "q3-soft" }, "Mark what is relevant in the table; nDCG, MRR and hit rate of the orders appear here."),
    warning ? h("p", { class: "q3-soft q3-caution" }, warning) : null);
}

/** The copied content: the selected documents, otherwise the kept ones, best first. Ranks and positions count from 0, as in Python. */
function asData(model, facts) {
  const { view } = facts;
  const chosen = view.order.filter((item) => (facts.selected.size ? facts.selected.has(item) : facts.kept(item)));
  return {
    query: view.query, instruction: view.instruction, model: view.model, threshold: facts.threshold, top_n: facts.topN,
    documents: chosen.map((item) => ({
      rank: facts.rank[item], index: item, score: view.scores[item], moved: item - facts.rank[item], truncated: facts.truncated.has(item),
      kept: facts.kept(item), duplicate_of: facts.documents[item].same, label: facts.labels[item],
      ...(facts.other ? { other_rank: facts.otherRank[item], other_score: facts.other.scores[item] } : {}),
      document: facts.documents[item].text,
    })),
  };
}

export default { render };
