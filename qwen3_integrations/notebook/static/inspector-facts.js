// Values derived from the traits: ranks, kept documents, order of the rows. No access to the page.

const named = (item) => `document ${item + 1}`;

/**
 * All values that the drawing needs, computed again when a trait changes. `item`: position of a document as passed; `slot`: row.
 * `search` are the words that rows must contain. Of very many documents, the page has the first ones only: `total` counts them all.
 */
function factsOf(model, search = "") {
  const documents = model.get("_documents"), view = model.get("_view"), other = model.get("_other"), given = model.get("labels");
  const threshold = model.get("threshold"), topN = model.get("top_n");
  const byOld = model.get("sort") === "old", reverse = model.get("reverse"), logOdds = model.get("scale") === "log_odds";
  const here = view.order.length, total = view.total ?? here;
  const rank = placesOf(view.order), otherRank = other ? other.rank ?? placesOf(other.order) : null;
  const failing = view.order.findIndex((item) => view.scores[item] < threshold);
  const keptCount = Math.min(failing < 0 ? here : failing, topN ?? here);
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = (item) => { const text = documents[item].text.toLowerCase(); return words.every((word) => text.includes(word)); };
  const byNew = words.length ? view.order.filter(matches) : view.order, inOrder = [...byNew].sort((a, b) => a - b);
  const rows = byOld ? inOrder : byNew, count = rows.length, slots = new Map(rows.map((item, slot) => [item, slot]));
  const turned = (place) => (reverse ? count - 1 - place : place);
  /** An order in the slope chart: `place` counts all documents, `list` has those with a row. */
  const column = (name, word, place, list) => {
    const at = new Map(list.map((item, slot) => [item, slot]));
    return { name, word, place, item: (slot) => list[slot], slot: (item) => at.get(item) };
  };
  const axis = logOdds ? oddsAxis(rows.flatMap((item) => [view.scores[item], ...(other ? [other.scores[item]] : [])])) : { low: 0, high: 1 };
  const shareOf = (score) => Math.min(1, Math.max(0, ((logOdds ? oddsOf(score) : score) - axis.low) / (axis.high - axis.low)));
  return {
    documents, view, other, threshold, topN, byOld, reverse, count, total, here, rank, otherRank, keptCount, turned, words, logOdds, axis, shareOf,
    keptRows: words.length ? byNew.filter((item) => rank[item] < keptCount).length : keptCount,
    mayKeepMore: failing < 0 && here < total && (topN === null || topN > here),
    labels: Array.isArray(given) ? given : new Proxy(given, { get: (all, item) => all[item] ?? null }),
    judged: (Array.isArray(given) ? given : Object.values(given)).filter((label) => label !== null).length,
    selected: new Set(model.get("selection")),
    truncated: new Set(view.truncated),
    pattern: words.length ? wordPattern(words) : termPattern(view.query),
    kept: (item) => rank[item] < keptCount,
    moved: (item) => (otherRank ? otherRank[item] : item) - rank[item],
    itemAt: (slot) => rows[turned(slot)],
    slotOf: (item) => turned(slots.get(item) ?? 0),
    hasRow: (item) => slots.has(item),
    scoreWords: (score) => (logOdds ? `${oddsOf(score) < 0 ? "−" : "+"}${Math.abs(oddsOf(score)).toFixed(2)}` : three(score)),
    /** The orders in the slope chart, left to right. */
    columns: [
      column("Old", "old", (item) => item, inOrder),
      ...(other ? [column("A", "A", (item) => otherRank[item], [...inOrder].sort((a, b) => otherRank[a] - otherRank[b]))] : []),
      column("New", "new", (item) => rank[item], byNew),
    ],
  };
}

/** The log-odds of a score: equal steps where scores near 0 or 1 look alike. Beyond a ten-millionth, float32 has no more digits. */
const oddsOf = (score) => { const p = Math.min(1 - 1e-7, Math.max(1e-7, score)); return Math.log(p / (1 - p)); };

function oddsAxis(scores) {
  let low = Infinity, high = -Infinity;
  for (const score of scores) { const odds = oddsOf(score); low = Math.min(low, odds); high = Math.max(high, odds); }
  return low > high ? { low: -1, high: 1 } : { low: Math.floor(low - 0.01), high: Math.ceil(high + 0.01) };
}

/** The title of a document: from its metadata, else its first words. */
function titleOf(facts, item, most = 40) {
  const { text, about } = facts.documents[item], title = String(about.title ?? text.slice(0, 4 * most)).replace(/\s+/g, " ").trim() || "empty";
  return title.length > most ? `${title.slice(0, most - 1)}…` : title;
}

function placesOf(order) {
  const places = new Array(order.length);
  order.forEach((item, place) => { places[item] = place; });
  return places;
}

/** `up`, `down` or `same`: the CSS class of a change. */
const direction = (moved) => (moved > 0 ? "up" : moved < 0 ? "down" : "same");

/** The symbol before the text of a change. */
const sign = (moved) => (moved > 0 ? "▲" : moved < 0 ? "▼" : "=");

const relevanceWords = (label) => (label === null || label === undefined ? "none" : label === 0 ? "0, not relevant" : `${label}, relevant`);

/** The old and the new place of a document, as text. */
function pathWords(facts, item) {
  const places = facts.columns.map((column) => `${column.word} ${column.place(item) + 1}`);
  return `${named(item)}: ${places.join(", ")}, ${movedInWords(facts.moved(item))}${facts.kept(item) ? "" : ", dropped"}`;
}
