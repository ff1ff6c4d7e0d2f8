// The map: up to 10,000 points. The lower canvas has the points, and is redrawn when they or the view change. The upper canvas shows
// pointer actions. Points have base positions (bx, by), and positions on the screen (xs, ys) that follow from the view.

// JupyterLab ignores keys in an element with this attribute; otherwise its own shortcuts would use the arrows, Enter and Esc.
const OWN_KEYS = { "data-lm-suppress-shortcuts": "true" };

/** The map's stage. `bright(index)`: whether a point is not dimmed; `describe(index)`: the content of its tooltip; `groupsNow()`: what
 *  colours show; `themed(colours)` is called with the theme's colours, and again when they change. */
function mapStage({ model, root, bright, describe, groupsNow, themed, hintId }) {
  const lower = h("canvas", { "aria-hidden": "true" });
  const upper = h("canvas", { "aria-hidden": "true" });
  const tip = h("div", { class: "q3-tip", "aria-hidden": "true", hidden: true });
  const size = () => [width, height];
  const view = viewOf({ size, changed: () => viewed() });
  let points = [], bx = new Float32Array(0), by = bx, xs = bx, ys = bx, cells = new Map(), middles = [];
  let width = 0, height = 0, ratio = 1, radius = 4, sprites = new Map(), colours = null, asked = null, star = null;
  let image = null, stale = false, unnamed = false, hovered = null, lasso = null, moving = false, pending = 0;
  const controls = zoomControls({ view, size, moves: (on) => { moving = on; stage.classList.toggle("q3-moving", on); } });
  const stage = h("div", { class: "q3-stage", tabindex: "0", role: "application", "aria-roledescription": "map", "aria-describedby": hintId, ...OWN_KEYS }, lower, upper);
  const names = namesLayer({ stage, avoid: controls.element, place: (group) => middles[group] && view.place(...middles[group]), taken: () => (star ? [starBox(star, width)] : []) });
  const spot = (event) => { const box = lower.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  const hasFocus = () => element.contains(element.getRootNode().activeElement);
  const wheel = wheelZoom({ stage, view, spot, hasFocus, busy: () => lasso !== null });
  const pinch = pinchZoom({ view, spot, begins: () => { lasso = null; hover(null); later(); } });
  stage.append(names.element, tip, wheel.note);
  const element = h("div", { class: "q3-map" }, stage, controls.element, controls.said);
  const CELL = 24, REACH = 14, PAD = 26;
  const theme = themeColours(root, () => { recolour(); redraw(); });
  const recolour = () => { colours = theme.read(); sprites = new Map(); themed(colours); };

  function layOut() {
    points = model.get("_map").points ?? [];
    const question = model.get("_asked").point;
    const framed = [...points.filter(Boolean), ...(question ? [question] : [])];
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const [x, y] of framed) { left = Math.min(left, x); right = Math.max(right, x); low = Math.min(low, y); high = Math.max(high, y); }
    const scale = Math.min((width - 2 * PAD) / Math.max(right - left, 1e-6), (height - 2 * PAD) / Math.max(high - low, 1e-6));
    const at = ([x, y]) => [width / 2 + (x - (left + right) / 2) * scale, height / 2 - (y - (low + high) / 2) * scale];
    bx = new Float32Array(points.length).fill(NaN);
    by = new Float32Array(points.length).fill(NaN);
    [xs, ys] = [bx.slice(), by.slice()];
    cells = new Map();
    points.forEach((point, index) => {
      if (!point) return;
      [bx[index], by[index]] = at(point);
      const cell = `${Math.floor(bx[index] / CELL)},${Math.floor(by[index] / CELL)}`;
      cells.has(cell) ? cells.get(cell).push(index) : cells.set(cell, [index]);
    });
    asked = question ? at(question) : null;
    nameClusters();
    view.resized();
    viewed();
  }

  /** Places everything anew after a change of the view. */
  function viewed() {
    const [[left, top], scale] = [view.place(0, 0), view.scale];
    for (let index = 0; index < bx.length; index++) { xs[index] = bx[index] * scale + left; ys[index] = by[index] * scale + top; }
    star = asked && view.place(...asked);
    const size = Math.round(5 * Math.min((points.length > 3000 ? 2.6 : points.length > 300 ? 3.6 : 5) * scale ** 0.25, 6)) / 5;
    if (size !== radius) { radius = size; sprites = new Map(); }
    stage.style.touchAction = scale > 1 ? "none" : "pan-y";
    if (hovered !== null) hover(null);
    unnamed = true;
    controls.update();
    redraw();
  }

  function nameClusters() {
    const { names: words = [], of = [] } = model.get("_clusters");
    middles = middlesOf(of, words.length, bx, by);
    names.set(words);
  }

  function resize() {
    [width, height] = [stage.clientWidth, stage.clientHeight];
    if (!width || !height) return;
    ratio = window.devicePixelRatio || 1;
    for (const canvas of [lower, upper]) { canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio); }
    names.resize();
    recolour(); // the colours can only be read once the stage is in the page
    layOut();
  }

  /** A mark that is drawn once and copied for each point: a point of a group, a dimmed point (grey), or a ring. */
  function sprite(key, draw) {
    if (!sprites.has(key)) sprites.set(key, markOf(1.4 * radius + 4, ratio, draw));
    return sprites.get(key);
  }

  const pointSprite = (group, lit) => sprite(`${group} ${lit}`, (pen) => {
    pen.fillStyle = lit ? colours.groups[group] : colours["ink-soft"];
    const path = shapeOf(SHAPES[group], radius);
    pen.fill(path);
    pen.strokeStyle = colours.bg; // a thin outline separates overlapping points
    pen.lineWidth = radius > 3 ? 0.8 : 0.4;
    pen.stroke(path);
  });

  const ringSprite = () => sprite("ring", (pen) => {
    pen.strokeStyle = colours.ink;
    pen.lineWidth = 1.6;
    pen.stroke(shapeOf("circle", radius + 2.2));
  });

  function drawPoints() {
    if (!colours || !width) return;
    const pen = lower.getContext("2d", { willReadFrequently: true });
    if (image?.width !== lower.width || image.height !== lower.height) image = pen.createImageData(lower.width, lower.height);
    image.data.fill(0);
    const group = groupsNow().of, crowd = xs.length > 3000, lit = [], dimmed = [];
    for (let index = 0; index < xs.length; index++) if (isSeen(index)) (bright(index) ? lit : dimmed).push(index);
    const draw = (indices, are, opacity) => {
      const marks = SHAPES.map((_, at) => pointSprite(at, are));
      for (const index of indices) stampMark(image, marks[Math.max(group?.[index] ?? 0, 0)], xs[index] * ratio, ys[index] * ratio, opacity);
    };
    draw(dimmed, false, crowd ? 0.1 : 0.2);
    draw(lit, true, crowd && !dimmed.length ? 0.75 : 0.95);
    for (const index of model.get("selection")) if (isSeen(index)) stampMark(image, ringSprite(), xs[index] * ratio, ys[index] * ratio, 1);
    pen.putImageData(image, 0, 0);
  }

  const isSeen = (index) => xs[index] > -12 && xs[index] < width + 12 && ys[index] > -12 && ys[index] < height + 12; // false for NaN

  function later() {
    pending ||= requestAnimationFrame(() => {
      pending = 0;
      if (stale) drawPoints();
      if (unnamed) names.layOut();
      stale = unnamed = false;
      drawOver();
    });
  }

  function redraw() { stale = true; later(); }

  function drawOver() {
    if (!colours || !width) return;
    const pen = upper.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, upper.width, upper.height);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const nearest = model.get("_nearest");
    const from = nearest.of === null ? star : nearest.of === undefined ? null : [xs[nearest.of], ys[nearest.of]];
    if (from && nearest.of === model.get("focused")) {
      for (const { index, fate } of nearest.rows) {
        pen.beginPath();
        pen.moveTo(...from);
        pen.lineTo(xs[index], ys[index]);
        pen.setLineDash(fate === "lost" ? [5, 4] : fate === "gained" ? [1.5, 3] : []);
        pen.strokeStyle = fate === "lost" ? colours.bad : fate === "gained" ? colours.good : colours.accent;
        pen.lineWidth = 1.4;
        pen.stroke();
      }
      pen.setLineDash([]);
    }
    ringAt(pen, model.get("focused"), colours.accent, 2.5, 5);
    ringAt(pen, hovered, colours.ink, 1.5, 4);
    if (star) drawStar(pen, star, colours, width, getComputedStyle(root).fontFamily);
    if (lasso?.drags && !lasso.pans) drawLasso(pen, lasso.path, colours);
  }

  function ringAt(pen, index, colour, line, gap) {
    if (index === null || index === undefined || Number.isNaN(xs[index] ?? NaN)) return;
    pen.beginPath();
    pen.arc(xs[index], ys[index], radius + gap, 0, 2 * Math.PI);
    pen.strokeStyle = colour;
    pen.lineWidth = line;
    pen.stroke();
  }

  function pick(x, y) {
    let [best, least] = [null, REACH * REACH];
    const [west, north] = view.base(x - REACH, y - REACH), [east, south] = view.base(x + REACH, y + REACH);
    for (let cx = Math.floor(west / CELL); cx * CELL <= east; cx++) for (let cy = Math.floor(north / CELL); cy * CELL <= south; cy++) {
      for (const index of cells.get(`${cx},${cy}`) ?? []) {
        const far = (xs[index] - x) ** 2 + (ys[index] - y) ** 2 + (bright(index) ? 0 : 60);
        if (far < least) [best, least] = [index, far];
      }
    }
    return best;
  }

  function hover(index) {
    if (index === hovered) return;
    hovered = index;
    tip.hidden = index === null;
    if (index !== null) {
      tip.replaceChildren(...describe(index));
      const right = xs[index] > width / 2;
      tip.style.left = right ? "" : `${xs[index] + 12}px`;
      tip.style.right = right ? `${width - xs[index] + 12}px` : "";
      tip.style.top = `${Math.min(Math.max(ys[index] - 14, 6), height - 70)}px`;
    }
    later();
  }

  stage.addEventListener("pointerdown", (event) => {
    if (pinch.down(event) || event.button > 1) return;
    const [x, y] = spot(event);
    const pans = moving || event.button === 1 || event.pointerType === "touch";
    lasso = { path: [[x, y]], start: [x, y], last: [x, y], drags: false, pans };
    if (event.button === 1) event.preventDefault(); // the middle button would scroll the page
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (pinch.move(event)) return;
    const [x, y] = spot(event);
    if (!lasso) return hover(pick(x, y));
    lasso.drags ||= Math.hypot(x - lasso.start[0], y - lasso.start[1]) > 4;
    if (!lasso.drags) return;
    hover(null);
    if (lasso.pans) {
      const [fromX, fromY] = lasso.last;
      lasso.last = [x, y];
      view.pan(x - fromX, y - fromY);
    } else {
      const all = event.getCoalescedEvents?.() ?? []; // a fast pointer has several positions within one frame
      lasso.path.push(...(all.length ? all : [event]).map(spot));
      later();
    }
  });
  stage.addEventListener("pointerup", (event) => {
    const ended = lasso;
    lasso = null;
    pinch.up(event);
    later();
    if (!ended || (event.button === 1 && !ended.drags)) return;
    if (ended.drags) return ended.pans ? undefined : choose(ended.path, event.shiftKey);
    const index = pick(...ended.start);
    if (index !== null && (event.ctrlKey || event.metaKey)) toggle(index);
    else put(model, "focused", index);
  });
  stage.addEventListener("pointercancel", (event) => { lasso = null; pinch.up(event); later(); });
  stage.addEventListener("pointerleave", () => hover(null));

  function choose(path, adding) {
    const chosen = new Set(adding ? model.get("selection") : []);
    for (let index = 0; index < xs.length; index++) if (bright(index) && inside(path, xs[index], ys[index])) chosen.add(index);
    put(model, "selection", [...chosen].sort((a, b) => a - b));
  }

  function toggle(index) {
    const chosen = new Set(model.get("selection"));
    if (!chosen.delete(index)) chosen.add(index);
    put(model, "selection", [...chosen].sort((a, b) => a - b));
  }

  /** The nearest point in a direction: its distance along the direction is larger than the distance across it. */
  function towards([ux, uy]) {
    const here = model.get("focused");
    const placed = here !== null && !Number.isNaN(xs[here] ?? NaN);
    const [x, y] = placed ? [xs[here], ys[here]] : star ?? [width / 2, height / 2];
    let [best, least] = [null, Infinity];
    for (let index = 0; index < xs.length; index++) {
      const [dx, dy] = [xs[index] - x, ys[index] - y];
      const [along, across] = [dx * ux + dy * uy, Math.abs(dx * uy - dy * ux)];
      const far = placed ? along + 2 * across : Math.hypot(dx, dy);
      if (index !== here && far < least && (!placed || (along > 0 && across <= along)) && bright(index)) [best, least] = [index, far];
    }
    return best;
  }

  const PAN = 60;
  const WAYS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  stage.addEventListener("keydown", (event) => {
    const focused = model.get("focused");
    if (event.ctrlKey || event.metaKey || event.altKey) return; // such as the browser's own zoom
    if (event.key === "+" || event.key === "=") view.by(STEP, ...size().map((side) => side / 2));
    else if (event.key === "-" || event.key === "_") view.by(1 / STEP, ...size().map((side) => side / 2));
    else if (event.key === "0") view.reset();
    else if (WAYS[event.key] && event.shiftKey) view.pan(...WAYS[event.key].map((way) => -PAN * way));
    else if (WAYS[event.key]) {
      const next = towards(WAYS[event.key]);
      if (next !== null) put(model, "focused", next);
    } else if ((event.key === "Enter" || event.key === " ") && focused !== null) toggle(focused);
    else if (event.key === "Escape") {
      if (lasso) { lasso = null; later(); }
      else if (model.get("selection").length) put(model, "selection", []);
      else if (focused !== null) put(model, "focused", null);
      else return;
    } else return;
    event.preventDefault();
  });

  const observer = new ResizeObserver(resize);
  observer.observe(stage);
  return {
    element,
    stage,
    toggle,
    redraw,
    recolour,
    layOut,
    later,
    nameClusters: () => { nameClusters(); unnamed = true; later(); },
    showNames: names.show,
    /** Zooms to points, as large as possible. */
    fit: (indices) => {
      const there = indices.filter((index) => !Number.isNaN(bx[index] ?? NaN));
      const [x, y] = [there.map((index) => bx[index]), there.map((index) => by[index])];
      if (there.length) view.fit([Math.min(...x), Math.max(...x), Math.min(...y), Math.max(...y)], PAD);
    },
    reveal: (index) => { if (!Number.isNaN(bx[index] ?? NaN)) view.reveal(bx[index], by[index], PAD); },
    end: () => { observer.disconnect(); cancelAnimationFrame(pending); controls.end(); wheel.end(); theme.end(); },
  };
}
