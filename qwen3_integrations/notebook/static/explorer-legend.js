// The map's tab: the stage with its legend, and what can be done with the selection.

function mapView({ model, root, on, own, textOf, groupOf }) {
  let found = null, only = null, swatches = [];
  const groupsNow = () => model.get(model.get("colour_by") === "clusters" ? "_clusters" : "_groups");
  const themed = (colours) => swatches.forEach((one) => one.draw(colours));
  const bright = (index) => (found === null || found.has(index)) && (only === null || groupsNow().of[index] === only);
  const describe = (index) => [h("b", { class: "q3-num" }, index + 1), groupOf(index) ? ` ${groupOf(index)}` : "", h("div", {}, textOf(index))];
  const map = mapStage({ model, root, bright, describe, groupsNow, themed, hintId: `${own}-hint` });
  const said = h("span", { class: "q3-hidden", role: "status", "aria-live": "polite" });
  const chosen = h("span", { class: "q3-num" });
  const clear = h("button", { type: "button", onclick: () => put(model, "selection", []) }, "Clear");
  const zoom = h("button", { type: "button", onclick: () => map.fit(model.get("selection")) }, "Zoom to selection");
  const names = h("button", { type: "button", "aria-pressed": "true", title: "Names of clusters, made of words of their texts", onclick: () => {
    const show = names.getAttribute("aria-pressed") === "false";
    names.setAttribute("aria-pressed", String(show));
    map.showNames(show);
  } }, "Names");
  const share = h("span", { class: "q3-soft q3-num" });
  const choice = h("select", { id: `${own}-colour`, onchange: () => put(model, "colour_by", choice.value) }, h("option", { value: "labels" }, "Labels"), h("option", { value: "clusters" }, "Clusters"));
  const colour = h("span", { class: "q3-colour" }, h("label", { for: choice.id, class: "q3-soft" }, "Colour"), choice);
  const legend = h("div", { class: "q3-legend", role: "group" });
  const hint = h("p", { class: "q3-soft q3-note", id: `${own}-hint` },
    "Drag to select, with Shift to add. Arrows move, Enter selects, Esc clears. + and − zoom, Shift with arrows pans, 0 shows all.");
  const element = h("div", {}, map.element, h("div", { class: "q3-keys" }, colour, legend),
    h("div", { class: "q3-row q3-under" }, chosen, clear, zoom, names, h("span", { class: "q3-grow" }), share), hint, said);

  on(["_map", "_asked"], () => {
    map.layOut();
    const { explained, points = [] } = model.get("_map");
    if (!explained) return;
    const shown = points.filter(Boolean).length;
    map.stage.setAttribute("aria-label", `Map of ${counted(shown, "text")}`);
    const out = points.length - shown;
    share.textContent = `${explained[0] ? `PCA: ${explained.map((each) => (100 * each).toFixed(1)).join(" + ")} % of the variance` : ""}${out ? ` · ${number(out)} left out, see Health` : ""}`;
  });
  on(["search", "_found"], () => { found = model.get("search").trim() ? new Set(model.get("_found")) : null; map.redraw(); });
  on(["selection"], () => {
    const count = model.get("selection").length;
    chosen.textContent = count ? `${number(count)} selected` : "Nothing selected";
    chosen.classList.toggle("q3-soft", !count);
    clear.hidden = !count;
    zoom.hidden = count < 2;
    map.redraw();
  });
  on(["_nearest", "focused"], () => map.later());
  on(["focused"], () => { if (model.get("focused") !== null) map.reveal(model.get("focused")); });
  on(["focused", "selection"], () => {
    const index = model.get("focused");
    said.textContent = index === null ? "" : `Text ${index + 1}${model.get("selection").includes(index) ? ", selected" : ""}: ${textOf(index)}${groupOf(index) ? `, group ${groupOf(index)}` : ""}`;
  });
  on(["_groups", "_clusters"], () => {
    const clusters = model.get("_clusters").names;
    names.hidden = !clusters;
    colour.hidden = !clusters || !model.get("_groups").names;
  });
  on(["_clusters"], () => map.nameClusters());
  on(["_groups", "_clusters", "colour_by"], () => {
    const { names: words = [], sizes } = groupsNow();
    only = null;
    choice.value = model.get("colour_by");
    swatches = words.map((_, group) => swatch(group));
    legend.hidden = !words.length;
    legend.setAttribute("aria-label", model.get("colour_by") === "clusters" ? "Clusters" : "Groups");
    legend.replaceChildren(...words.map((name, group) => {
      const button = h("button", { type: "button", "aria-pressed": "false", title: name, onclick: () => {
        only = only === group ? null : group;
        [...legend.children].forEach((each, at) => each.setAttribute("aria-pressed", String(at === only)));
        map.redraw();
      } }, swatches[group].canvas, h("span", { class: "q3-name" }, name), h("span", { class: "q3-soft q3-num" }, number(sizes[group])));
      return button;
    }));
    map.recolour();
    map.redraw();
  });
  return { element, toggle: map.toggle, end: map.end };
}
