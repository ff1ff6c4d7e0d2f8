// Values derived from the traits: ranks, kept documents, order of the rows. No access to the page.

const named = (item) => `document ${item + 1}`;

/** All values that the drawing needs, computed again when a trait changes. `item`: position of a document as passed; `slot`: row. */
function factsOf(model) {
  const documents = model.get("_documents"), view = model.get("_view"), other = model.get("_other");
  const threshold = model.get("threshold"), topN = model.get("top_n");
  const byOld = model.get("sort") === "old", reverse = model.get("reverse");
  const count = documents.length;
  const rank = placesOf(view.order), otherRank = other ? placesOf(other.order) : null;
  const failing = view.order.findIndex((item) => view.scores[item] < threshold);
  const keptCount = Math.min(failing < 0 ? count : failing, topN ?? count);
  const turned = (place) => (reverse ? count - 1 - place : place);
  return {
    documents, view, other, threshold, topN, byOld, reverse, count, rank, otherRank, keptCount, turned,
    labels: model.get("labels"),
    selected: new Set(model.get("selection")),
    truncated: new Set(view.truncated),
    pattern: termPattern(view.query),
    kept: (item) => rank[item] < keptCount,
    moved: (item) => (otherRank ? otherRank[item] : item) - rank[item],
    itemAt: (slot) => (byOld ? turned(slot) : view.order[turned(slot)]),
    slotOf: (item) => turned(byOld ? item : rank[item]),
    /** The orders in the slope chart, left to right: from document to place, and from place to document. */
    columns: [
      { name: "Old", word: "old", place: (item) => item, item: (place) => place },
      ...(other ? [{ name: "A", word: "A", place: (item) => otherRank[item], item: (place) => other.order[place] }] : []),
      { name: "New", word: "new", place: (item) => rank[item], item: (place) => view.order[place] },
    ],
  };
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
