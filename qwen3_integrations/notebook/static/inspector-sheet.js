// Chart and table in one scrolling sheet. Only visible rows are in the page, so that a thousand documents scroll smoothly.

const OVERSCAN = 4;  // additional rows above and below the visible ones
const NARROW = 780, ROOMY = 1080;  // a sheet with fewer pixels shows texts on a second line; ROOMY is the limit with more columns

/** Returns the sheet's element, `update` for changed traits, `show(item)` to scroll to a document, and `end`. */
function makeSheet(model, isLabelling, search) {
  const rows = new Map(), lines = new Map(), open = new Map();  // by document; `open` has the height of the open part below the row
  let facts, tops = [0], rowHeight = 34, seen = { first: 0, last: -1 }, hovered = null, focused = null, current = null, waiting = 0;

  const places = svg("g", { class: "q3-places", "aria-hidden": "true" });
  const overview = svg("g", { class: "q3-overview", "aria-hidden": "true" });
  const chart = svg("svg", { class: "q3-chart", role: "listbox", "aria-label": "Rank changes", "aria-multiselectable": "true" }, places, overview);
  const names = h("div", { class: "q3-head q3-names", "aria-hidden": "true" });
  const slope = h("div", { class: "q3-slope" }, names, chart);
  const head = h("div", { role: "row", class: "q3-head q3-cells", "aria-rowindex": 1 });
  const body = h("div", { role: "rowgroup", class: "q3-body" });
  const grid = h("div", { role: "grid", class: "q3-grid", "aria-label": "Documents", "aria-multiselectable": "true" }, head, body);
  const cut = h("div", { class: "q3-cut", "aria-hidden": "true" }, h("span"));
  const sheet = h("div", { class: "q3-sheet" }, slope, grid, cut);
  const scroller = h("div", { class: "q3-scroller", tabindex: -1, onscroll: () => { waiting ||= requestAnimationFrame(() => { waiting = 0; draw(); }); } }, sheet);

  const act = {
    select(item) {
      const selection = model.get("selection");
      put(model, "selection", selection.includes(item) ? selection.filter((one) => one !== item) : [...selection, item]);
      refocus(item);
    },
    open(item) {
      if (!open.delete(item)) open.set(item, 0);
      update();
      refocus(item);
    },
    label(item, value) {
      const given = model.get("labels"), labels = Array.isArray(given) ? [...given] : { ...given };
      const most = Object.values(labels).reduce((most, label) => Math.max(most, label), 1), label = labels[item] ?? null;
      const next = label === null ? 1 : label === 0 ? null : label < most ? label + 1 : 0;
      labels[item] = value === undefined ? next : value;
      put(model, "labels", labels);
      refocus(item);
    },
  };
  if (!model.get("_live")) act.label = null;
  const mayLabel = () => act.label && isLabelling() && !scroller.closest(".q3-without-kernel");  // Python measures with the labels

  /** A click on a button inside a row replaces the row's content, so the row gets the focus. */
  function refocus(item) {
    if (!chart.contains(scroller.getRootNode().activeElement)) rows.get(item)?.focus({ preventScroll: true });
  }

  function headCell(name, words, sort) {
    const on = sort && model.get("sort") === sort, reverse = model.get("reverse");
    const turn = () => { scroller.scrollTop = 0; model.set("reverse", on && !reverse); put(model, "sort", sort); };
    const falling = sort === "score" ? !reverse : reverse;  // scores are in descending order
    return h("div", { role: "columnheader", class: `q3-cell q3-${name}`, "aria-sort": on ? (falling ? "descending" : "ascending") : null },
      sort ? h("button", { type: "button", class: "q3-sort", onclick: turn },
        h("span", { class: "q3-arrow", "aria-hidden": "true" }, on ? (falling ? "↓" : "↑") : ""), words) : words);
  }

  function drawHead() {
    const hidden = (words) => h("span", { class: "q3-hidden" }, words);
    const axis = h("span", { class: "q3-axis", "aria-hidden": "true" }, ...[facts.axis.low, facts.axis.high].map((end) => h("span", {}, facts.logOdds ? `${end < 0 ? "−" : "+"}${Math.abs(end)}` : String(end))));
    const score = headCell("score", facts.logOdds ? "Odds" : "Score", "score");
    score.append(axis);
    const active = [...head.children].findIndex((cell) => cell.contains(scroller.getRootNode().activeElement));
    head.replaceChildren(
      headCell("check", hidden("Selected")), headCell("new", "New", "new"), headCell("old", "Old", "old"),
      headCell("change", facts.other ? "From A" : "Change"), score,
      ...(facts.other ? [headCell("was", "A score")] : []), ...(isLabelling() ? [headCell("label", "Relevance")] : []),
      headCell("text", "Document"), headCell("more", hidden("Open")),
    );
    if (active >= 0) head.children[active].querySelector("button")?.focus({ preventScroll: true });
    const x = columnPlaces(facts, chart.clientWidth);
    names.replaceChildren(...facts.columns.map((column, at) => h("span", { style: `left: ${x[at]}px` }, column.name)));
  }

  /** The top positions of all rows; open rows are taller. */
  function layout() {
    tops = [0];
    for (let slot = 0; slot < facts.count; slot += 1) tops.push(tops[slot] + rowHeight + (open.get(facts.itemAt(slot)) ?? 0));
    body.style.height = `${tops[facts.count]}px`;
    const edge = facts.turned(facts.keptRows) + (facts.reverse ? 1 : 0);
    cut.hidden = facts.byOld || facts.keptRows === facts.count;
    if (!cut.hidden) cut.style.top = `${head.offsetHeight + tops[edge]}px`;
    cut.firstChild.textContent = `${facts.keptRows.toLocaleString("en")} kept`;
  }

  function slotAt(height) {
    let low = 0, high = facts.count - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (tops[middle] <= height) low = middle; else high = middle - 1;
    }
    return low;
  }

  const viewHeight = () => Math.max(0, scroller.clientHeight - head.offsetHeight);

  function draw(refill = false) {
    if (!facts?.count) {
      for (const part of [rows, lines]) { for (const element of part.values()) element.remove(); part.clear(); }
      places.replaceChildren();
      overview.replaceChildren();
      return;
    }
    const spare = OVERSCAN * rowHeight, at = scroller.scrollTop;
    seen = { first: slotAt(at - spare), last: slotAt(at + viewHeight() + spare) };
    drawRows(refill);
    const width = chart.clientWidth, start = tops[seen.first];
    const drawing = { ...seen, width, middle: (slot) => tops[slot] - start + rowHeight / 2 };
    chart.style.top = `${head.offsetHeight + start}px`;
    chart.style.height = `${tops[seen.last + 1] - start}px`;
    drawPlaces(places, facts, drawing);
    drawSlope(chart, facts, { ...drawing, lines, keep: focused === null ? [] : [focused] });
    light();
  }

  function drawRows(refill) {
    const active = scroller.getRootNode().activeElement;
    const slots = new Set();
    for (let slot = seen.first; slot <= seen.last; slot += 1) slots.add(slot);
    if (focused !== null) slots.add(facts.slotOf(focused));
    const items = new Set([...slots].map(facts.itemAt));
    for (const [item, row] of rows) if (!items.has(item)) { row.remove(); rows.delete(item); }
    let after = body.firstChild, grown = false;
    for (const slot of [...slots].sort((a, b) => a - b)) {
      const item = facts.itemAt(slot), isNew = !rows.has(item);
      if (isNew) rows.set(item, h("div", { role: "row", tabindex: -1, "data-item": item }));
      const row = rows.get(item);
      if (isNew || refill) fillRow(row, facts, item, { labelling: isLabelling(), open: open.has(item), slot, act });
      if (row === after) after = after.nextSibling; else body.insertBefore(row, after);
      row.style.transform = `translateY(${tops[slot]}px)`;
      if (open.has(item)) {
        const height = row.lastChild.offsetHeight;
        grown ||= height !== open.get(item);
        open.set(item, height);
      }
    }
    if (grown) {
      layout();
      for (const [item, row] of rows) row.style.transform = `translateY(${tops[facts.slotOf(item)]}px)`;
    }
    if (active !== scroller.getRootNode().activeElement && rows.has(focused)) rows.get(focused).focus({ preventScroll: true });
  }

  /** Highlights the document under the pointer or with the focus, in chart and table. */
  function light() {
    const lit = hovered ?? focused;
    const many = facts.count >= MANY, opened = many && lit !== null && facts.hasRow(lit);
    chart.classList.toggle("q3-dim", lit !== null && !many);
    if (opened) {
      const top = Math.max(0, scroller.scrollTop - tops[seen.first]), height = Math.min(viewHeight(), tops[facts.count]);
      const at = scroller.scrollTop;
      drawOverview(overview, facts, lit, { top, height, width: chart.clientWidth, first: slotAt(at), last: slotAt(at + viewHeight() - 1) });
      chart.append(overview);  // above the marks
    } else overview.replaceChildren();
    if (!facts.count) return;
    const first = facts.itemAt(slotAt(scroller.scrollTop + rowHeight / 2));
    const stop = rows.has(current) ? current : first;
    for (const part of [rows, lines]) {
      for (const [item, element] of part) {
        element.classList.toggle("q3-lit", item === lit);
        element.setAttribute("tabindex", item === stop ? 0 : -1);
      }
    }
  }

  /** Scrolls to a document. */
  function reveal(item) {
    const slot = facts.slotOf(item), bottom = Math.min(tops[slot + 1], tops[slot] + viewHeight());
    if (tops[slot] < scroller.scrollTop) scroller.scrollTop = tops[slot];
    else if (bottom > scroller.scrollTop + viewHeight()) scroller.scrollTop = bottom - viewHeight();
  }

  function show(item, part = rows) {
    focused = current = item;
    reveal(item);
    draw();
    part.get(item).focus({ preventScroll: true });
    rows.get(item).scrollIntoView({ block: "nearest" });  // also scrolls the notebook if the sheet is only partly visible
  }

  const itemOf = (event) => {
    const element = event.target.closest("[data-item]");
    return element ? Number(element.dataset.item) : null;
  };

  function onKey(event) {
    const item = itemOf(event), part = chart.contains(event.target) ? lines : rows;
    if (item === null || event.ctrlKey || event.metaKey || event.altKey) return;
    const slot = facts.slotOf(item), page = Math.max(1, Math.floor(viewHeight() / rowHeight) - 1);
    const to = { ArrowDown: slot + 1, ArrowUp: slot - 1, PageDown: slot + page, PageUp: slot - page, Home: 0, End: facts.count - 1 }[event.key];
    if (event.key === "Escape") {
      if (open.has(item)) { act.open(item); rows.get(item)?.focus(); }
      else if (facts.selected.size) put(model, "selection", []);
      else return;
    } else if (event.target !== part.get(item)) return;  // buttons and text inside the row handle their own keys
    else if (to !== undefined) show(facts.itemAt(Math.min(facts.count - 1, Math.max(0, to))), part);
    else if (event.key === "Enter") act.open(item);
    else if (event.key === " ") act.select(item);
    else if (mayLabel() && /^[0-9]$/.test(event.key)) act.label(item, Number(event.key));
    else if (mayLabel() && ["Delete", "Backspace"].includes(event.key)) act.label(item, null);
    else return;
    event.preventDefault();
    event.stopPropagation();  // otherwise the notebook would handle the key
  }

  for (const part of [body, slope]) {  // not the chart itself: Chromium adds an SVG with a focus listener to the Tab order
    part.addEventListener("pointerover", (event) => { hovered = itemOf(event); light(); });
    part.addEventListener("pointerleave", () => { hovered = null; light(); });
    part.addEventListener("focusin", (event) => { focused = current = itemOf(event) ?? focused; light(); });
    part.addEventListener("focusout", (event) => { if (!part.contains(event.relatedTarget)) { focused = null; light(); } });
    part.addEventListener("keydown", onKey);
  }
  chart.addEventListener("click", (event) => { const item = itemOf(event); if (item !== null) show(item, lines); });

  function update() {
    facts = factsOf(model, search());
    if (focused !== null && !facts.hasRow(focused)) focused = null;
    if (hovered !== null && !facts.hasRow(hovered)) hovered = null;
    sheet.classList.toggle("q3-compared", Boolean(facts.other));
    sheet.classList.toggle("q3-judged", isLabelling());
    const two = scroller.clientWidth < (facts.other || isLabelling() ? ROOMY : NARROW);
    sheet.classList.toggle("q3-two", two);
    rowHeight = two ? 56 : 34;
    sheet.style.setProperty("--q3-row", `${rowHeight}px`);
    grid.setAttribute("aria-rowcount", facts.count + 1);
    drawHead();
    layout();
    draw(true);
  }

  let width = 0;
  const sizes = new ResizeObserver(() => {
    if (scroller.clientWidth !== width) { width = scroller.clientWidth; update(); }
    else draw();
  });
  sizes.observe(scroller);
  return { element: scroller, update, show, end: () => { sizes.disconnect(); cancelAnimationFrame(waiting); } };
}
