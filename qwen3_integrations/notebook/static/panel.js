// The panel of a server: its options, its memory plan, its start, and its use.

const PHASES = ["downloading", "starting", "loading", "compiling", "capturing", "answering", "ready"];
const CLIENTS = { curl: "curl", openai: "openai", langchain: "LangChain", llama_index: "LlamaIndex" };
const RATES = 60; // points of the curve
const STILL_HERE_MS = 60_000;
const TYPED_MS = 400;

const isIdle = (model) => ["stopped", "failed"].includes(model.get("state"));
const isReady = (model) => model.get("state") === "ready";
const count = (number) => (number === null || number === undefined ? "–" : Math.round(number).toLocaleString("en-US"));
const heading = (text, ...more) => h("div", { class: "q3-row q3-heading" }, h("h4", {}, text), ...more);

function render({ model, el }) {
  const view = `view-${Math.random().toString(36).slice(2)}`;
  const ends = [];
  const on = (names, draw) => ends.push(follow(model, names, draw));
  const panel = { model, view, on, ends };
  const root = h("section", { class: "q3 q3-panel", "data-lm-suppress-shortcuts": "true", "aria-label": "Server panel" });
  root.append(
    head(panel), steps(panel), lifted(panel), h("div", { class: "q3-error", role: "alert" }),
    form(panel), memory(panel), others(panel), address(panel), meters(panel), use(panel), log(panel), commands(panel),
  );
  on(["error"], () => { root.querySelector(":scope > .q3-error").textContent = model.get("error"); });
  ends.push(watchedBy(root, (seen) => sendAction(model, seen ? "show" : "hide", { view })));
  for (const part of root.children) if (!part.matches(".q3-error, .q3-lifted")) part.dataset.needs = "kernel";
  el.append(root);
  ends.push(watchKernel(model, el, root, "What it showed is from that time: a server may have ended with the kernel."));
  return () => ends.forEach((end) => end());
}

/** Calls `report` with whether the element is visible: now, on each change, and every minute while it is visible. */
function watchedBy(element, report) {
  let within = false;
  let reported = null;
  const update = () => {
    const seen = within && document.visibilityState === "visible";
    if (seen !== reported && (seen || reported !== null)) report(seen);
    reported = seen;
  };
  const observer = new IntersectionObserver((entries) => { within = entries.at(-1).isIntersecting; update(); });
  observer.observe(element);
  document.addEventListener("visibilitychange", update);
  const timer = setInterval(() => { if (reported) report(true); }, STILL_HERE_MS);
  return () => {
    observer.disconnect();
    document.removeEventListener("visibilitychange", update);
    clearInterval(timer);
    if (reported) report(false);
  };
}

export default { render };
