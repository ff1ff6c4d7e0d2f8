// Replaces the kernel's model in a page without a kernel: traits change only in the page.

class PageModel {
  #traits; #listeners = new Map();
  constructor(traits) { this.#traits = traits; }
  get(name) { return this.#traits[name]; }
  set(name, value) {
    if (this.#traits[name] === value) return;
    this.#traits[name] = value;
    for (const call of [...(this.#listeners.get(`change:${name}`) ?? [])]) call();
  }
  on(event, call) { this.#listeners.set(event, [...(this.#listeners.get(event) ?? []), call]); }
  off(event, call) { this.#listeners.set(event, (this.#listeners.get(event) ?? []).filter((one) => one !== call)); }
  save_changes() {}
  send() {}
}

render({ model: new PageModel(JSON.parse(document.getElementById("state").textContent)), el: document.getElementById("root") });
