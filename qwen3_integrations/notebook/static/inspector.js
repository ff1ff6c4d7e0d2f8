// RankInspector: the header, the instruction, the controls and the summaries around the sheet.

const DRAWN = ["_view", "_other", "_metrics", "threshold", "top_n", "sort", "reverse", "selection", "labels"];
const MOVERS = 5;

function render({ model, el }) {
  const isLabelled = () => model.get("labels").some((label) => label !== null);
  let labelling = isLabelled();
  const sheet = makeSheet(model, () => labelling);
  const about = h("div", { class: "q3-about" });
  const summaries = h("div", { class: "q3-summaries" });
  const controls = makeControls(model, (on) => { labelling = on; draw(); }, labelling);
  const run = model.get("_can_run") ? makeRun(model) : null;
  const lines = stateLines(model);
  const note = h("span", { class: "q3-soft", role: "status" });
  const state = h("div", { class: "q3-state" }, lines.busy, note);
  run?.actions.append(state);
  const root = h("section", { class: "q3 q3-inspector", "data-lm-suppress-shortcuts": "true", "aria-label": "Rank inspector" },
    about, run?.element, controls.element, summaries, sheet.element, h("p", { class: "q3-soft q3-hint" }), lines.error);
  el.append(root);

  function draw() {
    const facts = factsOf(model);
    drawAbout(about, facts, run);
    controls.update(facts);
    summaries.replaceChildren(
      ...(facts.other ? [comparison(model, facts, sheet)] : []),
      ...(labelling ? [metrics(model, facts)] : []),
    );
    root.querySelector(".q3-hint").textContent = facts.count === 0 ? "No documents were ranked."
      : `↑ ↓ move · Enter reads the whole document · Space selects${labelling && model.get("_live") ? " · 0 to 9 set the relevance, Delete clears it" : ""}`;
    sheet.update();
  }
  const ends = [
    follow(model, ["labels"], () => { if (isLabelled() && !labelling) { labelling = true; controls.showLabelling(); } }),
    follow(model, DRAWN, draw),
    follow(model, ["_note", "busy"], () => { note.textContent = model.get("busy") ? "" : model.get("_note"); }),
    lines.end, sheet.end, run?.end,
    watchKernel(model, el, root, "Reading, sorting and the threshold still work here; another run does not, and Python no longer sees what you choose."),
  ];
  return () => ends.forEach((end) => end?.());
}

function drawAbout(about, { view, count, documents, truncated }, run) {
  const same = documents.filter((document) => document.same !== null).length;
  const words = [
    view.model, `${count.toLocaleString("en")} documents`, view.tokens ? `${view.tokens.toLocaleString("en")} tokens` : null, `${view.seconds.toFixed(2)} s`,
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
  const go = () => { if (!model.get("busy")) sendAction(model, "run", { instruction: box.value }); };
  const stop = () => sendAction(model, "cancel");
  const again = h("button", { type: "button", class: "q3-main", onclick: go, title: "Ctrl+Enter" }, "Run again");
  const cancel = h("button", { type: "button", onclick: stop }, "Cancel");
  const compare = h("button", { type: "button", onclick: () => sendAction(model, "compare", { on: true }) }, "Compare with previous");
  const changed = h("span", { class: "q3-soft" });
  const note = () => { changed.textContent = box.value === model.get("_view").instruction ? "" : "changed since this ranking"; };
  box.addEventListener("input", note);
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
    follow(model, ["_view"], note),  // a new result does not overwrite the text that the user is typing
    follow(model, ["busy", "_previous", "_other"], () => {
      again.disabled = Boolean(model.get("busy"));
      cancel.disabled = !model.get("busy");
      compare.hidden = model.get("_previous") === null || model.get("_other") !== null;
      compare.title = `The previous run, with: ${model.get("_previous")}`;
    }),
  ];
  const actions = h("div", { class: "q3-row" }, again, cancel, compare);
  const element = h("div", { class: "q3-run", "data-needs": "kernel", role: "group", "aria-label": "Run again" },
    h("div", { class: "q3-row" }, h("span", { class: "q3-title" }, "Instruction"), changed, h("span", { class: "q3-grow" }), choose), box, actions);
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
  const copy = copyButton("Copy as JSON", () => JSON.stringify(asData(model, factsOf(model)), null, 2));
  copy.title = "The selected documents; without a selection, all kept documents";
  const element = h("div", { class: "q3-controls" },
    h("label", { class: "q3-row" }, h("span", { class: "q3-title" }, "Threshold"), slider, least), kept,
    h("label", { class: "q3-row" }, h("span", { class: "q3-title" }, "Keep at most"), most),
    h("span", { class: "q3-grow" }), model.get("_live") ? label : null, copy);
  for (const input of [slider, most]) input.addEventListener("keydown", (event) => event.stopPropagation());
  return {
    element,
    update({ threshold, topN, keptCount, count }) {
      slider.value = threshold;
      slider.setAttribute("aria-valuetext", `${three(threshold)}, ${keptCount} of ${count} kept`);
      least.textContent = three(threshold);
      kept.textContent = `${keptCount.toLocaleString("en")} of ${count.toLocaleString("en")} kept`;
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
    h("span", { class: "q3-sign", "aria-hidden": "true" }, sign(facts.moved(item))), ` ${named(item)} ${movedInWords(facts.moved(item))}`);
  return h("div", { class: "q3-summary q3-comparison", role: "group", "aria-label": "Comparison" },
    h("div", { class: "q3-row" }, h("span", { class: "q3-title" }, "Comparison"), h("span", { class: "q3-grow" }),
      model.get("_live") ? h("button", { type: "button", "data-needs": "kernel", onclick: () => sendAction(model, "compare", { on: false }) }, "Stop comparing") : null),
    h("dl", {}, h("dt", {}, "A"), h("dd", {}, said(other)), h("dt", {}, "New"), h("dd", {}, said(view)),
      h("dt", {}, "Kendall tau"), h("dd", { class: "q3-num" }, three(other.tau), h("span", { class: "q3-soft" }, "  1 the same order, 0 unrelated, −1 reversed")),
      h("dt", {}, "Biggest movers"), h("dd", { class: "q3-row" }, ...(movers.length ? movers.map(mover) : ["none: the orders are equal"]))));
}

/** The quality of each order, measured with the labels. */
function metrics(model, facts) {
  const k = model.get("k"), listed = model.get("_metrics");
  const judged = facts.labels.filter((label) => label !== null).length;
  const number = (value) => h("td", { class: "q3-num" }, three(value));
  const table = h("table", {},
    h("thead", {}, h("tr", {}, h("td"), ...[`nDCG@${k}`, "MRR", `Hit rate@${k}`].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, ...listed.map((one) => h("tr", {}, h("th", { scope: "row" }, one.order), number(one.ndcg), number(one.mrr), number(one.hit_rate)))));
  return h("div", { class: "q3-summary q3-metrics", role: "group", "aria-label": "Metrics" },
    h("div", { class: "q3-row" }, h("span", { class: "q3-title" }, "Metrics"), h("span", { class: "q3-soft q3-num" }, `${judged} of ${facts.count} labelled`)),
    listed.length ? table : h("p", { class: "q3-soft" }, "Mark what is relevant in the table; nDCG, MRR and hit rate of the orders appear here."));
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
