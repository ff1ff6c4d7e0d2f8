// A panel's head: the state, the actions, and the progress of a start.

/** The state with its colour, the served model, and the possible actions. */
function head({ model, on, ends, view }) {
  const light = h("span", { class: "q3-light", "aria-hidden": "true" });
  const word = h("strong", { class: "q3-word" });
  const note = h("span", { class: "q3-soft" });
  const what = h("div", { class: "q3-soft q3-what" });
  const clock = h("span", { class: "q3-soft q3-num" });
  const button = (label, action, attributes = {}) => h("button", { type: "button", ...attributes, onclick: () => sendAction(model, action) }, label);
  const start = button("Start", "start", { class: "q3-main q3-start", "aria-describedby": `${view}-memory` });
  const cancel = button("Cancel", "cancel");
  const live = [
    button("Detach", "detach", { title: "Show the form again; the server continues to run" }),
    button("Restart", "restart", { title: "Start again with the same options, address and key" }),
    button("Stop", "stop"),
  ];
  on(["state", "note", "busy"], () => {
    const state = model.get("state");
    light.dataset.kind = isReady(model) ? "good" : state === "failed" ? "bad" : isIdle(model) ? "idle" : "busy";
    word.textContent = state;
    note.textContent = model.get("busy") ? `${model.get("busy")}…` : model.get("note");
    note.classList.toggle("q3-busy", Boolean(model.get("busy")));
  });
  on(["state", "busy", "preview", "wrong", "info"], () => {
    const attached = Boolean(model.get("info").name) && !model.get("info").owned;
    start.hidden = !isIdle(model);
    start.disabled = Boolean(model.get("preview").refusal || Object.keys(model.get("wrong")).length || model.get("busy"));
    cancel.hidden = isIdle(model) || isReady(model) || attached;
    cancel.disabled = Boolean(model.get("busy"));
    for (const each of live) {
      each.hidden = !(isReady(model) || (attached && !isIdle(model)));
      each.disabled = Boolean(model.get("busy"));
    }
  });
  on(["info", "form"], () => {
    const info = model.get("info");
    const { task, model: name, engine } = model.get("form");
    const proposed = model.get("fields").find((field) => field.name === "model")?.empty[task];
    const facts = info.name ? [info.task, info.program] : [task, engine];
    what.replaceChildren(h("span", { class: "q3-name" }, info.model ?? (name || proposed)), ...facts.map((fact) => h("span", {}, fact)));
  });
  let began = 0;
  const tick = () => {
    const up = model.get("load").up;
    const seconds = Math.max(0, Math.round((performance.now() - began) / 1000));
    clock.textContent = isReady(model) ? (up ? `up ${up}` : "") : isIdle(model) ? "" : `${seconds} s`;
  };
  on(["load"], tick);
  on(["progress", "state"], () => { began = performance.now() - 1000 * (model.get("progress").elapsed_s ?? 0); tick(); });
  const timer = setInterval(tick, 1000);
  ends.push(() => clearInterval(timer));
  return h("header", { class: "q3-head" },
    h("div", { class: "q3-grow" }, h("div", { class: "q3-state" }, light, h("span", { role: "status" }, word, " ", note), clock), what),
    h("div", { class: "q3-row" }, start, cancel, ...live));
}

/** The progress of a start: its phases, the present phase, and the finished share of that phase. */
function steps({ model, on }) {
  const items = new Map(PHASES.slice(0, -1).map((phase) => [phase, h("li", {}, phase)]));
  const bar = h("div", { class: "q3-bar", role: "progressbar", "aria-label": "This phase", "aria-valuemin": 0, "aria-valuemax": 100 }, h("div", {}));
  const detail = h("div", { class: "q3-soft q3-detail" });
  const box = h("div", { class: "q3-steps" }, h("ol", { "aria-label": "Phases of the start" }, ...items.values()), bar, detail);
  on(["state", "progress"], () => {
    box.hidden = isIdle(model) || isReady(model);
    const at = PHASES.indexOf(model.get("state"));
    const { fraction = null, detail: said = "" } = model.get("progress");
    [...items.values()].forEach((item, index) => {
      item.className = index < at ? "q3-done" : "";
      if (index === at) item.setAttribute("aria-current", "step"); else item.removeAttribute("aria-current");
    });
    bar.classList.toggle("q3-unknown", fraction === null);
    bar.firstChild.style.width = fraction === null ? "" : `${100 * fraction}%`;
    if (fraction === null) bar.removeAttribute("aria-valuenow"); else bar.setAttribute("aria-valuenow", Math.round(100 * fraction));
    detail.textContent = fraction === null ? said : `${Math.round(100 * fraction)} %${said ? ` · ${said}` : ""}`;
  });
  return box;
}

/** The first error of the log. */
function lifted({ model, on }) {
  const text = h("code", {});
  const box = h("div", { class: "q3-lifted", role: "alert" }, h("div", { class: "q3-label" }, "First error"), text);
  on(["first_error"], () => {
    text.textContent = model.get("first_error");
    box.hidden = !model.get("first_error");
  });
  return box;
}
