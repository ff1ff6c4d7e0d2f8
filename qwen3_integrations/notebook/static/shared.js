// Shared by all widgets; comes before each widget's own module. Texts enter the page as text, never as HTML.

/** An element: `h("td", {class: "x", onclick: f, "aria-label": "y"}, "text", child, ...)`; null children are left out. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  apply(element, attributes);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An SVG element, as `h`. */
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

/** Calls `draw` now and whenever one of the model's traits changes; returns the function that ends it. */
function follow(model, names, draw) {
  const events = names.map((name) => `change:${name}`);
  for (const event of events) model.on(event, draw);
  draw();
  return () => events.forEach((event) => model.off(event, draw));
}

/** A line for state, read out when it changes, and the error under the widget. Returns their elements and an ending. */
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

/** Asks Python to do something. */
function ask(model, what, words = {}) {
  model.send({ do: what, ...words });
}

/** Sets a trait and sends it. */
function put(model, name, value) {
  model.set(name, value);
  model.save_changes();
}

/** Copies text; answers whether it could. */
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

/** A button that copies what `text()` gives, and says so. */
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
