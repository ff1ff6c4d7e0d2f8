// The marks of groups, and the theme's colours for canvases, which can't use style sheets.

const SHAPES = ["circle", "square", "triangle", "diamond", "plus", "down", "cross", "ring"];

/** A shape around 0, 0 with about the same area as a circle of this radius. */
function shapeOf(name, r) {
  const path = new Path2D();
  const polygon = (...points) => { points.forEach(([x, y], at) => (at ? path.lineTo(x * r, y * r) : path.moveTo(x * r, y * r))); path.closePath(); };
  if (name === "circle" || name === "ring") path.arc(0, 0, r, 0, 2 * Math.PI);
  if (name === "ring") path.arc(0, 0, 0.45 * r, 0, 2 * Math.PI, true);
  if (name === "square") path.rect(-0.9 * r, -0.9 * r, 1.8 * r, 1.8 * r);
  if (name === "triangle") polygon([0, -1.25], [1.15, 0.85], [-1.15, 0.85]);
  if (name === "down") polygon([0, 1.25], [1.15, -0.85], [-1.15, -0.85]);
  if (name === "diamond") polygon([0, -1.3], [1.1, 0], [0, 1.3], [-1.1, 0]);
  const arms = [[-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4], [0.4, 1.2], [-0.4, 1.2], [-0.4, 0.4], [-1.2, 0.4], [-1.2, -0.4], [-0.4, -0.4]];
  if (name === "plus") polygon(...arms);
  if (name === "cross") polygon(...arms.map(([x, y]) => [(x - y) * 0.7071, (x + y) * 0.7071]));
  return path;
}

/** A group's mark for the legend, equal to that on the canvas. */
function swatch(group) {
  const canvas = h("canvas", { class: "q3-swatch", width: 28, height: 28, "aria-hidden": "true" });
  return { canvas, draw: (colours) => {
    const pen = canvas.getContext("2d");
    pen.setTransform(2, 0, 0, 2, 14, 14);
    pen.clearRect(-7, -7, 14, 14);
    pen.fillStyle = colours.groups[group];
    pen.fill(shapeOf(SHAPES[group], 4.6));
  } };
}

/** The theme's colours for the canvas (`read`), and a callback when they change. A CSS transition detects every change; JupyterLab cancels
 *  it while it changes themes, and marks the page's body afterwards. */
function themeColours(root, changed) {
  const names = ["ink", "ink-soft", "bg", "accent", "good", "bad", ...SHAPES.map((_, at) => `group-${at}`)];
  const probes = names.map((name) => h("i", { class: "q3-probe", style: `color: var(--q3-${name})` }));
  const holder = h("div", { class: "q3-hidden", "aria-hidden": "true" }, probes);
  root.append(holder);
  let last = "", waiting = 0;
  const read = () => {
    const colour = Object.fromEntries(probes.map((probe, at) => [names[at], getComputedStyle(probe).color]));
    last = JSON.stringify(colour);
    return { ...colour, groups: SHAPES.map((_, at) => colour[`group-${at}`]) };
  };
  const check = () => {
    waiting ||= requestAnimationFrame(() => { waiting = 0; const before = last; read(); if (last !== before) changed(); });
  };
  for (const event of ["transitionend", "transitioncancel"]) holder.addEventListener(event, check);
  const marks = new MutationObserver(check);
  for (const part of [document.documentElement, document.body]) marks.observe(part, { attributes: true });
  return { read, end: () => { marks.disconnect(); cancelAnimationFrame(waiting); } };
}

/** The room of the query's star with its word. */
const starBox = ([x, y], width) => ({ left: x - (x > width - 60 ? 54 : 10), right: x + (x > width - 60 ? 10 : 54), top: y - 10, bottom: y + 10 });

/** The query's star with its word. */
function drawStar(pen, [x, y], colours, width, font) {
  const path = new Path2D();
  for (let spike = 0; spike < 10; spike++) {
    const [r, turn] = [spike % 2 ? 4 : 9.5, (spike * Math.PI) / 5 - Math.PI / 2];
    path.lineTo(x + r * Math.cos(turn), y + r * Math.sin(turn));
  }
  path.closePath();
  pen.lineWidth = 3;
  pen.strokeStyle = colours.bg;
  pen.stroke(path);
  pen.fillStyle = colours.ink;
  pen.fill(path);
  pen.font = `600 12px ${font}`;
  const atEdge = x > width - 60;
  pen.textAlign = atEdge ? "right" : "left";
  pen.strokeText("query", x + (atEdge ? -13 : 13), y + 4);
  pen.fillText("query", x + (atEdge ? -13 : 13), y + 4);
}

function drawLasso(pen, path, colours) {
  pen.beginPath();
  path.forEach(([x, y], at) => (at ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.closePath();
  pen.globalAlpha = 0.14;
  pen.fillStyle = colours.accent;
  pen.fill();
  pen.globalAlpha = 1;
  pen.strokeStyle = colours.accent;
  pen.lineWidth = 1.5;
  pen.setLineDash([4, 3]);
  pen.stroke();
  pen.setLineDash([]);
}

/** Whether a point is inside of a polygon. */
function inside(polygon, x, y) {
  let odd = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [xi, yi] = polygon[i], [xj, yj] = polygon[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) odd = !odd;
  }
  return odd;
}
