// The explorer's other charts, as SVG in the theme's colours: heat map of cosines, curve of recall by width, bars of variance.

/** A cosine's colour on a scale from the background over the accent to the ink, `share` in [0, 1]. */
const heatColour = (share) => (share < 0.6
  ? `color-mix(in oklab, var(--q3-accent) ${(6 + 94 * (share / 0.6)).toFixed(1)}%, var(--q3-bg))`
  : `color-mix(in oklab, var(--q3-ink) ${(80 * ((share - 0.6) / 0.4)).toFixed(1)}%, var(--q3-accent))`);

/** The heat map of texts. Arrow keys move the focus, Enter shows the text of the row, and the readout describes the cell. */
function heatMap({ model, textOf, focus }) {
  const LEFT = 158, TOP = 28, SIDE = 620;
  const readout = h("div", { class: "q3-readout", role: "status", "aria-live": "polite" });
  const title = h("span");
  const legend = h("div", { class: "q3-scale q3-num" });
  const grid = svg("svg", { viewBox: `0 0 ${SIDE} ${SIDE}`, class: "q3-heat", tabindex: "0", role: "application", "aria-roledescription": "heat map", ...OWN_KEYS });
  const labels = h("div", { class: "q3-labels q3-soft q3-num", "aria-hidden": "true" });
  const listTitle = h("summary");
  const list = h("ol", { class: "q3-shown", "aria-label": "Texts of the rows" });
  const about = h("p", { class: "q3-soft q3-note" }, "Similar texts stand side by side.");
  const element = h("div", { class: "q3-chart" }, h("div", { class: "q3-row q3-between q3-soft" }, title, legend), h("div", { class: "q3-frame" }, grid, labels), readout, about, h("details", {}, listTitle, list));
  let cell = [0, 0], size = 0, drawn = null, cursor = null, rowMark = null, columnMark = null;

  function draw() {
    if (model.get("_heat") === drawn) return;
    drawn = model.get("_heat");
    const { indices = [], values = [], chosen, of = 0 } = drawn;
    const count = indices.length;
    element.hidden = !count;
    grid.replaceChildren();
    labels.replaceChildren();
    if (!count) return;
    size = (SIDE - LEFT) / count;
    const others = values.flatMap((row, i) => row.filter((_, j) => i !== j));
    const [low, high] = others.length ? [Math.min(...others), Math.max(...others)] : [0, 1];
    const all = of.toLocaleString("en");
    title.textContent = chosen
      ? count < of ? `Cosines of ${count} texts that represent the ${all} selected ones` : `Cosines of the ${count} selected texts`
      : count < of ? `Cosines of ${count} texts that represent all ${all}; select some to see theirs` : `Cosines of ${count} ${count === 1 ? "text" : "texts"}`;
    listTitle.textContent = `The ${count === 1 ? "text" : `${count} texts`}, in the order of the rows`;
    list.replaceChildren(...indices.map((index) => h("li", {}, h("button", { type: "button", class: "q3-link q3-line", "aria-label": `Text ${index + 1}: ${textOf(index)}`, onclick: () => focus(index) },
      h("span", { class: "q3-soft q3-num" }, index + 1), " ", textOf(index)))));
    legend.replaceChildren(...(others.length ? [three(low), h("i", { style: `background: linear-gradient(to right, ${[0, 0.2, 0.4, 0.6, 0.8, 1].map(heatColour).join(", ")})` }), three(high)] : []));
    grid.setAttribute("aria-label", `Similarity of ${count} ${count === 1 ? "text" : "texts"}: arrows move from cell to cell, Enter shows the row's text`);
    const every = Math.max(1, Math.ceil(13 / size)); // labels that would overlap are omitted
    const everyColumn = Math.max(every, Math.ceil((7 * String(Math.max(...indices) + 1).length + 7) / size));
    const height = TOP + size * count + 4;
    grid.setAttribute("viewBox", `0 0 ${SIDE} ${height}`);
    const gap = size > 9 ? 1 : 0;
    const shareOf = (i, j) => (values[i][j] - low) / Math.max(high - low, 1e-9);
    for (let i = 0; i < count; i++) {
      for (let j = 0; j < count; j++) {
        const fill = i === j ? "var(--q3-bg-soft)" : heatColour(shareOf(i, j));
        grid.append(svg("rect", { x: LEFT + j * size, y: TOP + i * size, width: size - gap, height: size - gap, style: `fill: ${fill}` }));
        if (size > 44 && i !== j) grid.append(svg("text", { x: LEFT + (j + 0.5) * size, y: TOP + (i + 0.5) * size, class: shareOf(i, j) < 0.52 ? "q3-value" : "q3-value q3-turned" }, three(values[i][j])));
      }
      const middle = (i + 0.5) * size;
      if (i % every === 0) labels.append(h("div", { class: "q3-line", style: `top: ${(100 * (TOP + middle)) / height}%; width: ${(100 * (LEFT - 10)) / SIDE}%` }, `${indices[i] + 1} ${textOf(indices[i])}`));
      if (i % everyColumn === 0) grid.append(svg("text", { x: LEFT + middle, y: TOP - 7, class: "q3-axis", "text-anchor": "middle" }, String(indices[i] + 1)));
    }
    rowMark = svg("rect", { class: "q3-cross", x: LEFT, height: size - gap, width: size * count - gap });
    columnMark = svg("rect", { class: "q3-cross", y: TOP, width: size - gap, height: size * count - gap });
    cursor = svg("rect", { class: "q3-cursor", width: size - gap, height: size - gap, rx: 1 });
    grid.append(rowMark, columnMark, cursor);
    cell = cell.map((at) => Math.min(at, count - 1));
    if (count > 1 && cell[0] === cell[1]) cell = [1, 0];
    show();
  }

  function show() {
    const { indices, values } = model.get("_heat");
    const [i, j] = cell;
    for (const mark of [rowMark, cursor]) mark.setAttribute("y", TOP + i * size);
    for (const mark of [columnMark, cursor]) mark.setAttribute("x", LEFT + j * size);
    const line = (index) => h("div", { class: "q3-line" }, h("b", { class: "q3-num" }, index + 1), " ", textOf(index));
    readout.replaceChildren(h("div", { class: "q3-big q3-num" }, three(values[i][j])),
      h("div", { class: "q3-grow" }, line(indices[i]), i === j ? h("div", { class: "q3-soft" }, "the text itself") : line(indices[j])));
  }

  function at(event) {
    const count = (model.get("_heat").indices ?? []).length;
    const box = grid.getBoundingClientRect();
    const unit = SIDE / box.width;
    const [j, i] = [Math.floor(((event.clientX - box.left) * unit - LEFT) / size), Math.floor(((event.clientY - box.top) * unit - TOP) / size)];
    return i >= 0 && j >= 0 && i < count && j < count ? [i, j] : null;
  }

  grid.addEventListener("pointermove", (event) => { const over = at(event); if (over && (over[0] !== cell[0] || over[1] !== cell[1])) { cell = over; show(); } });
  grid.addEventListener("click", (event) => { const over = at(event); if (over) focus(model.get("_heat").indices[over[0]]); });
  grid.addEventListener("keydown", (event) => {
    const last = model.get("_heat").indices.length - 1;
    const [i, j] = cell;
    const to = { ArrowUp: [i - 1, j], ArrowDown: [i + 1, j], ArrowLeft: [i, j - 1], ArrowRight: [i, j + 1], Home: [i, 0], End: [i, last], PageUp: [0, j], PageDown: [last, j] }[event.key];
    if (to) { cell = to.map((place) => Math.min(Math.max(place, 0), last)); show(); }
    else if (event.key === "Enter") focus(model.get("_heat").indices[i]);
    else return;
    event.preventDefault();
  });
  return { element, draw };
}

/** Recall by width, on a fixed axis from 0 to 1. The widths are equally spaced, so that the slider's thumb is below its point. */
function recallChart({ model }) {
  const W = 620, H = 290, LEFT = 40, RIGHT = 18, TOP = 14, BOTTOM = 30;
  const plot = svg("svg", { viewBox: `0 0 ${W} ${H}`, class: "q3-curve", role: "img" });
  const big = h("div", { class: "q3-big q3-num" });
  const words = h("div", { class: "q3-soft" });
  const slider = h("input", { type: "range", min: 0, step: 1, class: "q3-grow", "aria-label": "Dimensions", ...OWN_KEYS });
  const about = h("p", { class: "q3-soft q3-note" });
  const element = h("div", { class: "q3-chart" }, h("div", { class: "q3-row q3-figure" }, big, words), plot, h("div", { class: "q3-slide", "data-needs": "kernel" }, slider), about);

  slider.addEventListener("input", () => put(model, "dimensions", model.get("_recall").widths[Number(slider.value)]));

  function draw() {
    const { widths = [], recall = [], k, asked } = model.get("_recall");
    element.hidden = !widths.length;
    if (!widths.length) return;
    const full = widths[widths.length - 1];
    const place = Math.max(widths.indexOf(model.get("dimensions")), 0);
    const [width, value] = [widths[place], recall[place]];
    const x = (at) => LEFT + ((W - LEFT - RIGHT) * at) / Math.max(widths.length - 1, 1);
    const y = (each) => TOP + (H - TOP - BOTTOM) * (1 - each);
    const line = widths.map((each, at) => `${at ? "L" : "M"}${x(at).toFixed(1)} ${y(recall[at]).toFixed(1)}`).join("");
    const every = Math.ceil((38 * widths.length) / W); // every n-th label is shown, counted from the full width, so that labels do not overlap
    const ticks = [...widths.keys()].filter((at) => (widths.length - 1 - at) % every === 0);
    plot.replaceChildren(
      ...[0, 0.25, 0.5, 0.75, 1].flatMap((each) => [
        svg("line", { x1: LEFT, x2: W - RIGHT, y1: y(each), y2: y(each), class: "q3-rule" }),
        svg("text", { x: LEFT - 8, y: y(each), class: "q3-axis", "text-anchor": "end", "dominant-baseline": "central" }, each.toFixed(2)),
      ]),
      ...ticks.map((at) => svg("text", { x: x(at), y: H - 9, class: `q3-axis${at === place ? " q3-strong" : ""}`, "text-anchor": "middle" }, widths[at].toLocaleString("en"))),
      svg("path", { d: `${line}L${x(widths.length - 1)} ${y(0)}L${x(0)} ${y(0)}Z`, class: "q3-area" }),
      svg("line", { x1: x(place), x2: x(place), y1: y(0), y2: y(value), class: "q3-here" }),
      svg("path", { d: line, class: "q3-trace" }),
      ...widths.map((_, at) => svg("circle", { cx: x(at), cy: y(recall[at]), r: at === place ? 6 : 3.2, class: at === place ? "q3-dot q3-on" : "q3-dot" })),
    );
    plot.setAttribute("aria-label", `Recall@${k} against the full width: ${widths.map((each, at) => `${three(recall[at])} at ${each}`).join(", ")} dimensions`);
    big.textContent = three(value);
    words.replaceChildren(h("b", {}, `recall@${k} at ${width.toLocaleString("en")} dimensions`), h("br"),
      width === full ? "the full width, which the others are measured against" : `${Math.round((100 * width) / full)} % of the full width's storage`);
    slider.max = widths.length - 1;
    slider.value = place;
    slider.setAttribute("aria-valuetext", `${width} dimensions, recall ${three(value)}`);
    const count = model.get("_facts").count;
    about.textContent = k ? `The share of a text's ${k} nearest texts that are still among its ${k} nearest when vectors are cut to fewer dimensions and normalised again${asked < count ? `, over ${asked.toLocaleString("en")} of ${count.toLocaleString("en")} texts` : ""}.` : "One text has no neighbours to lose.";
  }
  return { element, draw };
}

/** Variance by dimension; dimensions beyond the chosen width have a pale colour. */
function varianceChart({ model }) {
  const W = 620, H = 110, BOTTOM = 22, TOP = 6;
  const plot = svg("svg", { viewBox: `0 0 ${W} ${H}`, class: "q3-bars", role: "img" });
  const words = h("p", { class: "q3-soft q3-note" });
  const element = h("section", { class: "q3-chart" }, h("h4", {}, "Variance by dimension"), plot, words);

  function draw() {
    const { variance, width } = model.get("_health");
    const chosen = model.get("dimensions");
    element.hidden = !variance?.top;
    if (element.hidden) return;
    const { bars, edges, top, cumulated } = variance;
    const highest = Math.max(...bars), step = W / bars.length, gap = step > 3 ? 1 : 0;
    plot.replaceChildren(
      ...bars.map((bar, at) => svg("rect", { x: at * step, width: Math.max(step - gap, 0.5), y: TOP + (H - TOP - BOTTOM) * (1 - bar / highest), height: ((H - TOP - BOTTOM) * bar) / highest, class: edges[at] < chosen ? "q3-bar" : "q3-bar q3-pale" })),
      svg("line", { x1: 0, x2: W, y1: H - BOTTOM + 0.5, y2: H - BOTTOM + 0.5, class: "q3-rule" }),
      ...[[0, "start", 1], [W / 2, "middle", Math.ceil(width / 2)], [W, "end", width]].map(([x, anchor, label]) => svg("text", { x, y: H - 6, class: "q3-axis", "text-anchor": anchor }, label.toLocaleString("en"))),
    );
    const held = cumulated[Math.max(edges.findLastIndex((edge) => edge <= chosen) - 1, 0)];
    const said = `Dimension ${(top[0] + 1).toLocaleString("en")} varies most: ${(100 * top[1]).toFixed(1)} % of all variance${chosen < width ? `; the first ${chosen.toLocaleString("en")} dimensions hold ${(100 * held).toFixed(0)} %` : ""}.`;
    words.textContent = said;
    plot.setAttribute("aria-label", `Variance of ${width} dimensions. ${said}`);
  }
  return { element, draw };
}
