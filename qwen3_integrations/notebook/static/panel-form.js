// A panel's form: the options of a server.

/** The options: a few are always visible, the others are under "More options". */
function form({ model, on, view, ends }) {
  const fields = model.get("fields");
  const made = new Map(fields.map((field) => [field.name, entry(field, model, view, ends)]));
  const grid = (group) => h("div", { class: "q3-grid" }, ...fields.filter((field) => field.group === group).map((field) => made.get(field.name).box));
  const set = h("span", { class: "q3-soft" });
  const groups = [...new Set(fields.map((field) => field.group))].filter(Boolean);
  const more = h("details", { class: "q3-more" }, h("summary", {}, "More options", set),
    ...groups.map((group) => h("fieldset", {}, h("legend", {}, group), grid(group))));
  const box = h("form", { class: "q3-form", "aria-label": "Options", novalidate: true, onsubmit: (event) => {
    event.preventDefault();
    made.forEach((each) => each.flush());
    const start = box.closest(".q3-panel").querySelector(".q3-start");
    if (!start.disabled) sendAction(model, "start");
  } }, grid(""), more, h("button", { type: "submit", hidden: true }));
  on(["state"], () => { box.hidden = !isIdle(model); });
  on(["form", "wrong"], () => {
    const { values, wrong } = { values: model.get("form"), wrong: model.get("wrong") };
    made.forEach((each, name) => each.show(values[name], wrong[name] ?? "", values.task));
    const hidden = fields.filter((field) => field.group);
    const changed = hidden.filter((field) => values[field.name] !== field.default).length;
    set.textContent = changed ? `${changed} set` : "";
    if (hidden.some((field) => wrong[field.name])) more.open = true;
  });
  return box;
}

/** One field: label, input, help, and error. */
function entry(field, model, view, ends) {
  const id = `${view}-${field.name}`;
  const isSwitch = field.kind === "switch";
  let timer = 0;
  const read = () => (isSwitch ? input.checked : input.value);
  const flush = () => {
    clearTimeout(timer);
    if (read() !== model.get("form")[field.name]) sendAction(model, "set", { name: field.name, value: read() });
  };
  const typed = () => { clearTimeout(timer); timer = setTimeout(flush, TYPED_MS); };
  ends.push(() => clearTimeout(timer));
  const words = { id, "aria-describedby": `${id}-help`, onchange: flush };
  const input = field.kind === "choice"
    ? h("select", words, ...field.choices.map((choice) => h("option", { value: choice }, choice)))
    : isSwitch
      ? h("input", { ...words, type: "checkbox" })
      : h("input", { ...words, type: "text", spellcheck: "false", autocomplete: "off", inputmode: field.kind === "number" ? "numeric" : null,
          list: field.kind === "model" ? `${id}-list` : null, oninput: typed });
  const known = field.kind === "model" ? h("datalist", { id: `${id}-list` }) : null;
  const help = h("div", { id: `${id}-help`, class: "q3-help" });
  const label = h("label", { for: id }, field.label);
  const box = h("div", { class: `q3-field q3-${field.kind}` }, ...(isSwitch ? [h("div", { class: "q3-row" }, input, label)] : [label, input]), known, help);
  let task = null;
  return {
    box,
    flush,
    show(value, wrong, forTask) {
      if (input.getRootNode().activeElement !== input || isSwitch || field.kind === "choice") {
        if (isSwitch) input.checked = value; else input.value = value;
      }
      if (task !== forTask && !isSwitch && field.kind !== "choice") {
        task = forTask;
        input.placeholder = known ? field.empty[task] : field.empty;
        known?.replaceChildren(...field.choices[task].map((name) => h("option", { value: name })));
      }
      input.setAttribute("aria-invalid", wrong ? "true" : "false");
      help.textContent = wrong || field.help;
      help.classList.toggle("q3-wrong", Boolean(wrong));
    },
  };
}
