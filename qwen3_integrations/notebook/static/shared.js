// Shared by all widgets; included before each widget's own module. Texts are inserted as text, never as HTML.

/** An element: `h("td", {class: "x", onclick: f, "aria-label": "y"}, "text", child, ...)`; null children are skipped. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  apply(element, attributes);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An SVG element; arguments as in `h`. */
function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  apply(element, attributes);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function apply(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && (typeof value === "boolean" || name === "value")) element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

/** Calls `draw` now and whenever one of the named traits changes; returns a function that stops it. */
function follow(model, names, draw) {
  const events = names.map((name) => `change:${name}`);
  for (const event of events) model.on(event, draw);
  draw();
  return () => events.forEach((event) => model.off(event, draw));
}

/** A status line, announced to screen readers on change, and the error under the widget. Returns the elements and a function to stop. */
function stateLines(model) {
  const busy = h("span", { role: "status", "aria-live": "polite" });
  const error = h("div", { class: "q3-error", role: "alert" });
  const end = follow(model, ["busy", "error"], () => {
    busy.textContent = model.get("busy") ? `${model.get("busy")}…` : "";
    busy.className = model.get("busy") ? "q3-busy q3-soft" : "q3-soft";
    error.textContent = model.get("error");
  });
  return { busy, error, end };
}

/** Sends an action to Python. */
function sendAction(model, what, words = {}) {
  model.send({ do: what, ...words });
}

/** Sets a trait and sends it. */
function put(model, name, value) {
  model.set(name, value);
  model.save_changes();
}

/** Copies text to the clipboard; returns whether it succeeded. */
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { class: "q3-hidden", value: text });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/** A button that copies the result of `text()` and shows a confirmation. */
function copyButton(label, text) {
  const button = h("button", { type: "button", onclick: async () => {
    const done = await copyText(text());
    button.textContent = done ? "Copied" : "Could not copy";
    setTimeout(() => { button.textContent = label; }, 1500);
  } }, label);
  return button;
}

/** A number with 3 decimals. */
const three = (value) => value.toFixed(3);

/** `up 3`, `down 1`, `same`. */
const movedInWords = (moved) => (moved > 0 ? `up ${moved}` : moved < 0 ? `down ${-moved}` : "same");

const ENDED = ["dead", "restarting", "autorestarting", "terminating"];  // states of a kernel whose objects are gone

/**
 * Says so above a widget, and switches off what needs Python (elements with `data-needs="kernel"`), once the kernel is gone that made it.
 * Jupyter marks a view without its model's channel with a class; the kernel's own signals tell of an end that leaves the channel open.
 * `advice` says what still works. Returns a function that stops the watch.
 */
function watchKernel(model, el, root, advice) {
  const notice = h("div", { class: "q3-ended", role: "alert" });
  root.prepend(notice);
  let gone = false, lost = false;
  const redrawn = new MutationObserver(() => { for (const part of root.querySelectorAll("[data-needs=kernel]:not([inert])")) part.inert = true; });
  const update = () => {
    const ended = gone || lost || Boolean(el.closest?.(".jupyter-widgets-disconnected"));
    if (ended === (notice.textContent !== "")) return;
    if (ended) redrawn.observe(root, { childList: true, subtree: true }); else redrawn.disconnect();
    notice.textContent = ended ? `The kernel that made this was restarted or has ended. ${advice} Run the cell again to go on.` : "";
    for (const part of root.querySelectorAll("[data-needs=kernel]")) part.inert = ended;
    root.classList.toggle("q3-without-kernel", ended);
  };
  const end = () => { gone = true; update(); };
  const kernel = kernelOf(model);
  const changed = (_, status) => { if (ENDED.includes(status)) end(); };
  const connection = (_, status) => { lost = status === "disconnected"; update(); };  // after several attempts to connect again
  kernel?.statusChanged?.connect(changed);
  kernel?.connectionStatusChanged?.connect(connection);
  kernel?.disposed?.connect(end);
  const marks = new MutationObserver(update);
  for (let each = el; each?.nodeType === Node.ELEMENT_NODE && each !== document.body; each = each.parentElement) {
    marks.observe(each, { attributes: true, attributeFilter: ["class"] });
    if (each.classList.contains("jp-OutputArea-child")) break;
  }
  model.on("comm_live_update", update);
  update();
  return () => {
    marks.disconnect();
    redrawn.disconnect();
    model.off("comm_live_update", update);
    kernel?.statusChanged?.disconnect(changed);
    kernel?.connectionStatusChanged?.disconnect(connection);
    kernel?.disposed?.disconnect(end);
  };
}

/** The connection to the widget's kernel, in hosts that have one. */
function kernelOf(model) {
  try { return model.widget_manager?.kernel ?? null; } catch { return null; }
}
