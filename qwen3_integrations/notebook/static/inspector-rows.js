// One row of the table: cells, marks, and, if the row is open, the whole document below them.

const SNIPPET = 400;

/** Replaces the content of a row's element. The element itself is kept, so that it keeps the focus. */
function fillRow(row, facts, item, { labelling, open, slot, act }) {
  const text = facts.documents[item].text, score = facts.view.scores[item], moved = facts.moved(item), kept = facts.kept(item);
  const selected = facts.selected.has(item);
  row.className = `q3-item${kept ? "" : " q3-dropped"}${selected ? " q3-selected" : ""}${open ? " q3-open" : ""}`;
  row.setAttribute("aria-rowindex", slot + 2);
  row.setAttribute("aria-selected", selected);
  const cell = (name, ...children) => h("div", { role: "gridcell", class: `q3-cell q3-${name}` }, ...children);
  row.replaceChildren(
    h("div", { class: "q3-cells", role: "presentation" },
      cell("check", h("input", {
        type: "checkbox", tabindex: -1, checked: selected, "aria-label": `Select ${named(item)}`, onchange: () => act.select(item) })),
      cell("new q3-num", String(facts.rank[item] + 1)),
      cell("old q3-num", String(item + 1)),
      cell("change q3-num", h("span", { class: `q3-${direction(moved)}` },
        h("span", { class: "q3-sign", "aria-hidden": "true" }, sign(moved)), ` ${movedInWords(moved)}`)),
      cell("score q3-num", h("span", { class: "q3-value", title: facts.logOdds ? `probability ${score}` : null }, facts.scoreWords(score)), bar(facts, item)),
      facts.other && cell("was q3-num", facts.scoreWords(facts.other.scores[item])),
      labelling && cell("label", labelButton(facts, item, act)),
      cell("text", ...marks(facts, item), h("span", { class: "q3-snippet", onclick: () => act.open(item) },
        ...marked(snippetOf(text, facts), facts.pattern), text.trim() ? null : h("i", { class: "q3-soft" }, "empty"))),
      cell("more", h("button", {
        type: "button", tabindex: -1, class: "q3-chevron", "aria-expanded": String(open),
        "aria-label": `${open ? "Close" : "Read"} ${named(item)}`, onclick: () => act.open(item) }, open ? "−" : "+")),
    ),
    ...(open ? [detail(facts, item)] : []),
  );
}

/** The beginning of a text; with a search, the part with the first of its words. */
function snippetOf(text, facts) {
  const lower = text.toLowerCase(), whole = lower.indexOf(facts.words.join(" "));
  const at = whole >= 0 || !facts.words.length ? whole : lower.indexOf(facts.words[0]);
  const from = at > 60 ? at - 30 : 0;
  return `${from ? "…" : ""}${text.slice(from, from + SNIPPET).replace(/\s+/g, " ")}`;
}

/** The score on a fixed axis, with the threshold, and with A's score if two rankings are compared. */
function bar(facts, item) {
  const other = facts.other ? h("span", { class: "q3-tick", style: `left: ${100 * facts.shareOf(facts.other.scores[item])}%` }) : null;
  const least = facts.threshold > 0 ? h("span", { class: "q3-least", style: `left: ${100 * facts.shareOf(facts.threshold)}%` }) : null;
  return h("span", { class: "q3-bar", "aria-hidden": "true" },
    h("span", { class: "q3-fill", style: `width: ${100 * facts.shareOf(facts.view.scores[item])}%` }), least, other);
}

function marks(facts, item) {
  const same = facts.documents[item].same;
  const mark = (name, words, title) => h("span", { class: `q3-chip q3-chip-${name}`, title }, words);
  return [
    // With rows in order of the score, a line separates kept and dropped rows.
    facts.kept(item) ? null : facts.byOld ? mark("dropped", "dropped", "Below the threshold, or beyond the number to keep") : h("span", { class: "q3-hidden" }, "dropped"),
    facts.truncated.has(item) ? mark("cut", "truncated", "The model read only its beginning") : null,
    same === null ? null : mark("same", `same as ${same + 1}`, `The same text as the document at old rank ${same + 1}`),
  ];
}

function labelButton(facts, item, act) {
  const label = facts.labels[item];
  return h("button", {
    type: "button", tabindex: -1, "data-needs": "kernel", class: `q3-judge${label === null ? " q3-soft" : ""}`, disabled: !act.label,
    "aria-label": `Relevance of ${named(item)}: ${relevanceWords(label)}`, onclick: () => act.label(item),
  }, label === null ? "–" : label === 0 ? "✗ 0" : `✓ ${label}`);
}

function detail(facts, item) {
  const { text, about, length = text.length } = facts.documents[item];
  const names = Object.keys(about);
  const beside = facts.other ? ` · A scored ${three(facts.other.scores[item])}` : "";
  return h("div", { class: "q3-detail", role: "gridcell" },
    names.length ? h("dl", {}, ...names.flatMap((name) => [h("dt", {}, name), h("dd", {}, about[name])])) : null,
    h("div", { class: "q3-whole", tabindex: 0, role: "group", "aria-label": `The text of ${named(item)}` }, ...marked(text, facts.pattern)),
    h("div", { class: "q3-soft" }, `${pathWords(facts, item)}${beside} · ${length.toLocaleString("en")} characters${length > text.length ? `, the first ${text.length.toLocaleString("en")} shown` : ""}`));
}
