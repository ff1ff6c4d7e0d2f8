// Zoom and pan of the map. A point has a base position, where the whole map fits the stage; the view scales and moves it.

const MOST_ZOOM = 64;
const STEP = 1.5; // one press of a button or a key

/** The view. `size()`: width and height of the stage; `changed()` is called after every change. The view never leaves the map. */
function viewOf({ size, changed }) {
  let scale = 1, left = 0, top = 0;
  let [width, height] = [0, 0];

  function set(next, x, y) {
    const [wide, high] = size();
    const within = (value, least, most) => Math.min(Math.max(value, least), most);
    next = within(next, 1, MOST_ZOOM);
    x = within(x, wide * (1 - next), 0);
    y = within(y, high * (1 - next), 0);
    if (next === scale && x === left && y === top) return false;
    [scale, left, top] = [next, x, y];
    changed();
    return true;
  }

  return {
    get scale() { return scale; },
    place: (x, y) => [x * scale + left, y * scale + top],
    base: (x, y) => [(x - left) / scale, (y - top) / scale],
    /** Zooms; the point of the map under x, y stays there. Returns whether anything changed, as `pan` does. */
    by: (factor, x, y) => {
      const next = Math.min(Math.max(scale * factor, 1), MOST_ZOOM);
      return set(next, x - ((x - left) / scale) * next, y - ((y - top) / scale) * next);
    },
    pan: (dx, dy) => set(scale, left + dx, top + dy),
    reset: () => set(1, 0, 0),
    /** Shows a box of base positions as large as possible. */
    fit: ([west, east, north, south], pad) => {
      const [wide, high] = size();
      const next = Math.min((wide - 2 * pad) / Math.max(east - west, 1e-3), (high - 2 * pad) / Math.max(south - north, 1e-3), MOST_ZOOM);
      return set(next, wide / 2 - (next * (west + east)) / 2, high / 2 - (next * (north + south)) / 2);
    },
    /** Moves a base position into the stage, unless it is there. */
    reveal: (x, y, pad) => {
      const [wide, high] = size();
      const [sx, sy] = [x * scale + left, y * scale + top];
      const by = (at, end) => (at < pad ? pad - at : at > end - pad ? end - pad - at : 0);
      return set(scale, left + by(sx, wide), top + by(sy, high));
    },
    /** Keeps the middle of the view where it is in the map when the stage has another size. */
    resized: () => {
      const [wide, high] = size();
      if (width && height) {
        const [x, y] = [(width / 2 - left) / scale / width, (height / 2 - top) / scale / height];
        [left, top] = [wide / 2 - x * wide * scale, high / 2 - y * high * scale];
      }
      [width, height] = [wide, high];
    },
  };
}

/** The buttons of the view, and the words that a screen reader hears. `update()` shows the present zoom. */
function zoomControls({ view, size, moves }) {
  const middle = () => size().map((side) => side / 2);
  const button = (name, label, onclick) => h("button", { type: "button", "aria-label": label, title: label, onclick }, name);
  const out = button("−", "Zoom out", () => view.by(1 / STEP, ...middle()));
  const whole = button("100 %", "Show the whole map", () => view.reset());
  const into = button("+", "Zoom in", () => view.by(STEP, ...middle()));
  const move = h("button", { type: "button", "aria-pressed": "false", title: "A drag moves the map instead of selecting texts", onclick: () => {
    const on = move.getAttribute("aria-pressed") === "false";
    move.setAttribute("aria-pressed", String(on));
    moves(on);
  } }, "Move");
  const said = h("span", { class: "q3-hidden", role: "status", "aria-live": "polite" });
  const element = h("div", { class: "q3-zoom", role: "group", "aria-label": "Zoom" }, out, whole, into, move);
  let waiting = 0, shown = 1;

  function update() {
    const percent = Math.round(100 * view.scale);
    whole.textContent = `${percent.toLocaleString("en")} %`;
    out.setAttribute("aria-disabled", String(view.scale === 1)); // not `disabled`, which would drop the focus of the keyboard
    into.setAttribute("aria-disabled", String(view.scale === MOST_ZOOM));
    clearTimeout(waiting);
    if (view.scale !== shown) waiting = setTimeout(() => { // once, after a turn of the wheel
      shown = view.scale;
      said.textContent = shown === 1 ? "The whole map" : `Zoom ${percent} %`;
    }, 300);
  }
  update();
  return { element, said, update, end: () => clearTimeout(waiting) };
}

/** The wheel zooms while the map has the focus, or with Ctrl; otherwise it scrolls the page, and a note says how to zoom. */
function wheelZoom({ stage, view, spot, hasFocus, busy }) {
  const note = h("div", { class: "q3-wheel", "aria-hidden": "true", hidden: true }, "To zoom with the wheel, hold Ctrl, or click the map first");
  let waiting = 0;
  stage.addEventListener("wheel", (event) => {
    const wanted = event.ctrlKey || event.metaKey;
    if (!wanted && !hasFocus()) {
      note.hidden = false;
      clearTimeout(waiting);
      waiting = setTimeout(() => { note.hidden = true; }, 1200);
      return;
    }
    const unit = [1, 20, 400][event.deltaMode];
    const turned = busy() ? true
      : Math.abs(event.deltaX) > Math.abs(event.deltaY) ? view.pan(-event.deltaX * unit, 0)
      : view.by(Math.exp(-Math.min(Math.max(event.deltaY * unit, -200), 200) / 300), ...spot(event));
    note.hidden = true;
    if (turned || wanted) event.preventDefault(); // at the end of the zoom, the page scrolls
  }, { passive: false });
  return { note, end: () => clearTimeout(waiting) };
}

/** Two fingers zoom and move. `begins()` is called when the second one comes down. Returns whether an event belongs to them. */
function pinchZoom({ view, spot, begins }) {
  const fingers = new Map();
  const state = () => {
    const [[ax, ay], [bx, by]] = [...fingers.values()];
    return { x: (ax + bx) / 2, y: (ay + by) / 2, apart: Math.max(Math.hypot(ax - bx, ay - by), 1) };
  };
  return {
    down: (event) => {
      if (event.pointerType !== "touch") return false;
      fingers.set(event.pointerId, spot(event));
      if (fingers.size === 2) begins();
      return fingers.size > 1;
    },
    move: (event) => {
      if (!fingers.has(event.pointerId)) return false;
      if (fingers.size !== 2) { fingers.set(event.pointerId, spot(event)); return false; }
      const before = state();
      fingers.set(event.pointerId, spot(event));
      const now = state();
      view.pan(now.x - before.x, now.y - before.y);
      view.by(now.apart / before.apart, now.x, now.y);
      return true;
    },
    up: (event) => { fingers.delete(event.pointerId); },
  };
}
