// The slope chart: one line per document from its old to its new place. Only lines with a visible end are drawn.

const EDGE = 34;  // room for the numbers
const FAR = 26;  // length of a stub in pixels

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
  for (let slot = first; slot <= last; slot += 1) for (const column of columns) wanted.add(column.item(turned(slot)));
  for (const [item, line] of lines) if (!wanted.has(item)) { line.remove(); lines.delete(item); }
  let after = chart.querySelector("[role=option]");
  for (const item of [...wanted].sort((a, b) => facts.slotOf(a) - facts.slotOf(b))) {  // screen readers read them in the order of the rows
    if (!lines.has(item)) {
      lines.set(item, svg("g", { role: "option", tabindex: -1, "data-item": item }, svg("path", { class: "q3-reach" }), svg("path", { class: "q3-line" })));
    }
    const line = lines.get(item);
    if (line === after) after = after.nextSibling; else chart.insertBefore(line, after);
    const ends = columns.map((column, at) => {
      const slot = turned(column.place(item));
      return { x: x[at], y: middle(slot), seen: slot >= first && slot <= last };
    });
    const path = ends.slice(1).map((end, at) => piece(ends[at], end)).join("");
    for (const drawn of line.querySelectorAll("path")) drawn.setAttribute("d", path);
    line.querySelectorAll("circle").forEach((dot) => dot.remove());
    line.append(...ends.filter((end) => end.seen).map((end) => svg("circle", { cx: end.x, cy: end.y, r: 3 })));
    line.setAttribute("class", `q3-${direction(facts.moved(item))}${facts.kept(item) ? "" : " q3-dropped"}`);
    line.setAttribute("aria-label", pathWords(facts, item));
    line.setAttribute("aria-selected", facts.selected.has(item));
  }
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
  const numbers = [];
  for (let slot = first; slot <= last; slot += 1) {
    const place = facts.turned(slot) + 1, y = middle(slot);
    numbers.push(svg("text", { x: EDGE - 10, y, "text-anchor": "end" }, String(place)));
    if (facts.byOld) numbers.push(svg("text", { x: width - EDGE + 10, y }, String(place)));
  }
  layer.replaceChildren(...numbers);
}
