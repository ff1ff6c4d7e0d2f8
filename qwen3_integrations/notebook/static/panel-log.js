// A panel's log and command lines.

/** The end of the log. It scrolls to new lines until the reader scrolls up; "Pause" stops it. */
function log({ model, on, ends }) {
  let [first, next, seen] = [0, 0, 0]; // line numbers: the first in the page, one after the last in the page, one after the last that was scrolled to
  let [follows, paused] = [true, false];
  const lines = h("pre", { class: "q3-log", role: "log", "aria-label": "Log", "aria-live": "off", tabindex: 0 });
  const newer = h("button", { type: "button", class: "q3-newer", hidden: true, onclick: () => { follows = true; draw(); } });
  const pause = h("button", { type: "button", "aria-pressed": "false", onclick: () => { paused = !paused; draw(); } });
  const path = h("bdi", {}); // keeps the end of the path visible in a narrow panel, with the slashes in place
  const copy = copyButton("Copy", () => (model.get("tail").lines ?? []).join("\n"));
  const box = h("section", { "aria-label": "Log of the server" }, heading("Log", h("span", { class: "q3-soft q3-path q3-grow" }, path), pause, copy), h("div", { class: "q3-logbox" }, lines, newer));
  const line = (text) => h("span", { class: /\b(ERROR|CRITICAL|Traceback)\b|^\S*Error:/.test(text) ? "q3-severe" : /\bWARNING\b/.test(text) ? "q3-mild" : null }, `${text}\n`);
  const draw = () => {
    const { first: from = 0, lines: texts = [] } = model.get("tail");
    const end = from + texts.length;
    if (!texts.length || from < first || from > next || end < next) { // another log
      lines.replaceChildren();
      [next, seen, follows, paused] = [from, from, true, false];
    }
    if (!paused) {
      lines.append(...texts.slice(next - from).map(line));
      while (lines.childElementCount > texts.length) lines.firstChild.remove();
      [first, next] = [from, end];
      if (follows) [lines.scrollTop, seen] = [lines.scrollHeight, end];
    }
    const waiting = paused ? end - next : end - seen;
    newer.hidden = paused || waiting <= 0;
    newer.textContent = `${waiting} newer ${waiting === 1 ? "line" : "lines"} ↓`;
    pause.textContent = !paused ? "Pause" : waiting ? `Resume, ${waiting} newer` : "Resume";
    pause.setAttribute("aria-pressed", String(paused));
  };
  lines.addEventListener("scroll", () => {
    const atEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 20;
    if (atEnd !== follows) { follows = atEnd; draw(); }
  });
  const size = new ResizeObserver(draw); // the first lines are drawn before the layout is known
  size.observe(lines);
  ends.push(() => size.disconnect());
  on(["tail"], () => {
    box.hidden = !(model.get("tail").lines ?? []).length;
    path.textContent = model.get("tail").path ?? "";
    draw();
  });
  return box;
}

/** The command lines for a terminal. */
function commands({ model, on }) {
  const block = (label) => {
    const text = h("pre", {});
    return { text, box: h("div", {}, h("div", { class: "q3-row" }, h("span", { class: "q3-label q3-grow" }, label), copyButton("Copy", () => text.textContent)), text) };
  };
  const [own, engines] = [block("The same command for a terminal"), block("The engine's own command")];
  const box = h("details", { class: "q3-more" }, h("summary", {}, "Command line"), own.box, engines.box);
  on(["preview", "info", "state"], () => {
    const shown = model.get("info").name ? model.get("info") : model.get("preview");
    box.hidden = !shown.cli && !shown.command;
    own.box.hidden = !shown.cli;
    engines.box.hidden = !shown.command;
    own.text.textContent = shown.cli ?? "";
    engines.text.textContent = shown.command ?? "";
  });
  return box;
}
