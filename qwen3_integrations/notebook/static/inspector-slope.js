// The slope chart: one line per document from its old to its new place. Only lines with a visible end are drawn.

const EDGE = 34;  // room for the numbers
const FAR = 26;  // length of a stub in pixels
const MANY = 100;  // from so many rows on, the lines would be a tangle: one line is drawn, that of the document under the pointer or with the focus

/** The horizontal positions of the orders in the chart, left to right. */
function columnPlaces({ columns, byOld }, width) {
  const right = width - (byOld ? EDGE : 18);
  return columns.map((_, at) => EDGE + ((right - EDGE) * at) / (columns.length - 1));
}

/**
 * Draws into `chart` (an SVG) the lines that have an end between the slots `first` and `last`.
 * `middle(slot)` is the height of a row's middle, `lines` the elements drawn last time, by document; returns those drawn now.
 */
function drawSlope(chart, facts, { first, last, middle, width, lines, keep }) {
  const { columns, turned } = facts, x = columnPlaces(facts, width);
  const wanted = new Set(keep);
  for (let slot = first; slot <= last; slot += 1) for (const column of facts.count < MANY ? columns : columns.slice(facts.byOld ? 0 : -1)) wanted.add(column.item(turned(slot)));
  for (const [item, line] of lines) if (!wanted.has(item)) { line.remove(); lines.delete(item); }
  let after = chart.querySelector("[role=option]");
  for (const item of [...wanted].sort((a, b) => facts.slotOf(a) - facts.slotOf(b))) {  // screen readers read them in the order of the rows
    if (!lines.has(item)) {
      lines.set(item, svg("g", { role: "option", tabindex: -1, "data-item": item }, svg("path", { class: "q3-reach" }), svg("path", { class: "q3-line" })));
    }
    const line = lines.get(item);
    if (line === after) after = after.nextSibling; else chart.insertBefore(line, after);
    const ends = columns.map((column, at) => {
      const slot = turned(column.slot(item) ?? 0);
      return { x: x[at], y: middle(slot), seen: slot >= first && slot <= last };
    });
    const own = middle(facts.slotOf(item));
    const path = facts.count >= MANY ? mark(own, facts.moved(item), x) : ends.slice(1).map((end, at) => piece(ends[at], end)).join("");
    for (const drawn of line.querySelectorAll("path")) drawn.setAttribute("d", path);
    line.querySelectorAll("circle").forEach((dot) => dot.remove());
    if (facts.count < MANY) line.append(...ends.filter((end) => end.seen).map((end) => svg("circle", { cx: end.x, cy: end.y, r: 3 })));
    line.setAttribute("class", `q3-${direction(facts.moved(item))}${facts.kept(item) ? "" : " q3-dropped"}`);
    line.setAttribute("aria-label", pathWords(facts, item));
    line.setAttribute("aria-selected", facts.selected.has(item));
  }
}

/** The mark of a row among many: an arrow as long as the move, on a logarithmic scale; a dot's width for none. */
function mark(y, moved, x) {
  const middle = (x[0] + x.at(-1)) / 2, most = (x.at(-1) - x[0]) / 2;
  const reach = Math.sign(moved) * Math.min(most, 6 + 9 * Math.log10(1 + Math.abs(moved)));
  if (!moved) return `M${middle - 2} ${y}h4`;
  const tip = middle + reach, barb = tip - 4 * Math.sign(moved);
  return `M${middle} ${y}H${tip}M${barb} ${y - 3.5}L${tip} ${y}L${barb} ${y + 3.5}`;
}

/** The overview of many documents: the whole list at the height of the window, with the path of one document, its places, and the window. */
function drawOverview(layer, facts, item, { top, height, width, first, last }) {
  const y = (slot) => top + 12 + ((height - 24) * slot) / Math.max(facts.count - 1, 1), x = columnPlaces({ columns: facts.columns, byOld: true }, width);
  const ends = facts.columns.map((column, at) => ({ x: x[at], y: y(facts.turned(column.slot(item))), place: column.place(item) + 1, seen: true }));
  const near = facts.byOld ? x[0] : x.at(-1);
  layer.setAttribute("class", `q3-overview q3-${direction(facts.moved(item))}`);
  layer.replaceChildren(
    svg("rect", { class: "q3-paper", x: 0, y: top, width, height }),
    ...x.map((each) => svg("line", { class: "q3-rule", x1: each, x2: each, y1: top + 12, y2: top + height - 12 })),
    svg("line", { class: "q3-window", x1: near, x2: near, y1: y(first), y2: y(last) }),
    svg("path", { class: "q3-line", d: ends.slice(1).map((end, at) => piece(ends[at], end)).join("") }),
    ...ends.map((end) => svg("circle", { cx: end.x, cy: end.y, r: 4 })),
    ...ends.map((end, at) => svg("text", { x: end.x + (at ? (at === ends.length - 1 ? 8 : 0) : -8), y: end.y + (at && at < ends.length - 1 ? -10 : 0), "text-anchor": at ? (at === ends.length - 1 ? "start" : "middle") : "end" }, end.place.toLocaleString("en"))),
  );
}

/** One segment of a line. If one end is far out of view, a stub points in its direction; if both are, nothing is drawn. */
function piece(from, to) {
  if (!from.seen && !to.seen) return "";
  const half = (from.x + to.x) / 2;
  if (from.seen && to.seen) return `M${from.x} ${from.y}C${half} ${from.y} ${half} ${to.y} ${to.x} ${to.y}`;
  const [near, far] = from.seen ? [from, to] : [to, from];
  const bend = Math.sign(far.y - near.y) * Math.min(FAR, Math.abs(far.y - near.y));
  const reach = near.x + (far.x - near.x) * 0.42;
  return `M${near.x} ${near.y}C${(near.x + reach) / 2} ${near.y} ${reach} ${near.y} ${reach} ${near.y + bend}`;
}

/** The numbers beside the chart: the places of the visible rows, on the left and (with rows in the old order) on the right. */
function drawPlaces(layer, facts, { first, last, middle, width }) {
  const numbers = [], [left, right] = [facts.columns[0], facts.columns.at(-1)];
  for (let slot = first; slot <= last && facts.count < MANY; slot += 1) {
    const y = middle(slot), at = facts.turned(slot);
    numbers.push(svg("text", { x: EDGE - 10, y, "text-anchor": "end" }, String(left.place(left.item(at)) + 1)));
    if (facts.byOld) numbers.push(svg("text", { x: width - EDGE + 10, y }, String(right.place(right.item(at)) + 1)));
  }
  layer.replaceChildren(...numbers);
}
