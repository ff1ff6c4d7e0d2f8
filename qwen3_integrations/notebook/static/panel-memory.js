// A panel's memory plan, and the running servers.

/** The planned memory on each device, compared with its free memory, and the reason why a start is refused. */
function memory({ model, on, view }) {
  const body = h("div", { id: `${view}-memory` });
  const title = heading("Memory");
  const box = h("section", { "aria-label": "Memory" }, title, body);
  on(["preview", "state"], () => {
    const plan = model.get("preview");
    box.hidden = !isIdle(model) || !plan.devices;
    if (box.hidden) return;
    title.hidden = !plan.devices.length;
    const unknown = plan.refusal || plan.parts.length ? "" : plan.is_here
      ? "The sizes are left to the engine, so there is no plan."
      : `${plan.model} is not on this machine yet: Start downloads it, then checks that it fits.`;
    body.replaceChildren(
      ...plan.devices.map((device) => deviceBar(device, plan)),
      ...(plan.parts.length ? [legend(plan)] : []),
      ...(unknown ? [h("p", { class: "q3-soft" }, unknown)] : []),
      ...(plan.warning ? [h("p", { class: "q3-warning" }, plan.warning)] : []),
      ...(plan.refusal ? [h("div", { class: "q3-error" }, plan.refusal)] : []),
    );
  });
  return box;
}

function deviceBar(device, plan) {
  const used = device.total_bytes - device.free_bytes;
  const parts = plan.parts.map((part) => ({ ...part, bytes: part.bytes * device.processes }));
  const needed = parts.reduce((sum, part) => sum + part.bytes, 0);
  const whole = Math.max(device.total_bytes, used + needed);
  const share = (bytes) => `${(100 * bytes) / whole}%`;
  const lacks = needed > device.free_bytes;
  const times = device.processes > 1 ? `${device.processes} × ` : "";
  const verdict = !needed ? `${device.free} free of ${device.total}`
    : lacks ? `needs ${times}${plan.needed}, ${device.free} free: ${device.left} too much`
      : `needs ${times}${plan.needed} of ${device.free} free`;
  return h("div", { class: "q3-device" },
    h("div", { class: "q3-row" }, h("span", { class: "q3-grow" }, device.name), h("span", { class: lacks ? "q3-num q3-wrong" : "q3-num q3-soft" }, verdict)),
    h("div", { class: "q3-memory", role: "img", "aria-label": `${device.name}: ${verdict}` },
      h("div", { class: "q3-used", style: `width: ${share(used)}`, title: "in use by others" }),
      ...parts.map((part, index) => h("div", { class: `q3-part q3-part-${index}`, style: `width: ${share(part.bytes)}`, title: `${part.name} ${part.text}` })),
      lacks ? h("div", { class: "q3-over", style: `left: ${share(device.total_bytes)}`, title: `more than all of it: ${device.total}` }) : null));
}

function legend(plan) {
  const row = (mark, name, size) => h("div", {}, h("dt", {}, h("span", { class: `q3-swatch ${mark}`, "aria-hidden": "true" }), name), h("dd", { class: "q3-num" }, size));
  return h("dl", { class: "q3-legend" },
    ...plan.parts.map((part, index) => row(`q3-part-${index}`, part.name, part.text)),
    h("div", { class: "q3-sum" }, h("dt", {}, "together"), h("dd", { class: "q3-num" }, plan.needed)));
}

/** The running servers. */
function others({ model, on }) {
  const list = h("ul", { class: "q3-others" });
  const box = h("section", { "aria-label": "Running servers" }, heading("Running servers"), list);
  on(["others", "state"], () => {
    box.hidden = !isIdle(model) || !model.get("others").length;
    const named = list.getRootNode().activeElement?.dataset?.server;
    list.replaceChildren(...model.get("others").map((server) => h("li", { class: "q3-row" },
      h("div", { class: "q3-grow" }, h("div", { class: "q3-name" }, server.name),
        h("div", { class: "q3-soft q3-facts" }, ...[server.task, server.model, server.program, server.url].map((fact) => h("span", {}, fact)))),
      h("button", { type: "button", "data-server": server.name, "aria-label": `Attach to ${server.name}`, onclick: () => sendAction(model, "attach", { name: server.name }) }, "Attach"))));
    if (named) [...list.querySelectorAll("button")].find((button) => button.dataset.server === named)?.focus();
  });
  return box;
}
