// The health of the vectors: figures as sentences, the chart of variance, and near-duplicates.

/** The figures as sentences with a symbol each, the chart of variance, and the near-duplicates. */
function healthView({ model, focus, textOf, on }) {
  const figures = h("dl", { class: "q3-figures" });
  const variance = varianceChart({ model });
  const heading = h("h4");
  const pairs = h("div", { class: "q3-pairs" });
  const element = h("div", {}, figures, variance.element, h("section", {}, heading, pairs));
  const jump = (index) => h("button", { type: "button", class: "q3-link q3-num", "aria-label": `Text ${index + 1}`, onclick: () => focus(index) }, index + 1);
  const listed = ({ count, first }, what, link) => (count
    ? [counted(count, what), ": ", ...first.flatMap((index, at) => [at ? ", " : "", link ? jump(index) : String(index + 1)]), count > first.length ? ` and ${number(count - first.length)} more` : ""]
    : ["none"]);
  const figure = (name, good, ...value) => [h("dt", {}, name),
    h("dd", { class: "q3-num" }, good === null ? null : h("span", { class: good ? "q3-ok" : "q3-note-mark", role: "img", "aria-label": good ? "good" : "note" }, good ? "✓" : "!"), h("span", {}, ...value))];

  on(["_health"], () => {
    const { count, norms, mean, nonFinite, zero, constant, above, pairs: near } = model.get("_health");
    if (count === undefined) return;
    const even = norms && norms[2] - norms[0] < 1e-3 && Math.abs(norms[1] - 1) < 1e-3;
    figures.replaceChildren(
      ...figure("Length", norms ? even : null, norms ? (even ? "1.000, all of unit length" : `${three(norms[0])} to ${three(norms[2])}, median ${three(norms[1])}`) : "no finite vector"),
      ...figure("Mean cosine", null, mean === null ? "needs two texts" : `${three(mean)} between two texts`),
      ...figure("Not finite", !nonFinite.count, ...listed(nonFinite, "text", true)),
      ...figure("Zero", !zero.count, ...listed(zero, "text", true)),
      ...figure("Hardly vary", !constant.count, ...listed(constant, "dimension", false)),
      ...figure("Near-duplicates", near ? !near.above : null, near ? (near.above ? `${counted(near.above, "pair")} with a cosine of ${above} or more` : `none with a cosine of ${above} or more`) : "not looked for yet"),
    );
    heading.hidden = !near?.best.length;
    heading.textContent = near?.above ? (near.above > near.best.length ? `Near-duplicates, the nearest ${near.best.length} of ${number(near.above)}` : "Near-duplicates") : "Nearest pairs";
    const side = (index) => h("button", { type: "button", class: "q3-link q3-line", "aria-label": `Text ${index + 1}: ${textOf(index)}`, onclick: () => focus(index) }, h("span", { class: "q3-num q3-soft" }, index + 1), " ", textOf(index));
    pairs.replaceChildren(...(near?.best ?? []).map(({ first, second, cosine, equal }) =>
      h("div", { class: "q3-pair" }, h("div", { class: "q3-num q3-strong" }, three(cosine), equal ? h("div", { class: "q3-soft" }, "same text") : null), h("div", { class: "q3-grow" }, side(first), side(second)))));
  });
  on(["_health", "dimensions"], variance.draw);
  return { element };
}
