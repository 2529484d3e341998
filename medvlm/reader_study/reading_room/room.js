// The reading room: one session of one reader. Everything stays in this browser until the answers file is saved.
const byId = id => document.getElementById(id);
const readingRoom = {
  pictures: {}, wanted: {},
  picture(source, stacks) { const name = decodeURIComponent(source).split("/").pop().replace(/\.js$/, ""); this.pictures[name] = stacks; this.wanted[name]?.(); },
  open(packet) {
    this.packet = packet; this.key = "reading-room:" + packet.packet;
    byId("title").textContent = packet.title; document.title = packet.title;
    this.load();
    this.viewer = new Viewer(byId("stage"), byId("canvas"), byId("readout"), byId("slice"));
    this.form = new RatingForm(byId("form"), packet.form.questions, () => this.changed());
    this.markable = packet.form.questions.some(question => question.kind === "spans");
    this.buttons(); this.clock();
    const day = new Date().toLocaleDateString("sv");
    if (packet.earliest && day < packet.earliest) return this.curtain("Not yet", `This session may be read from ${packet.earliest} on.`, false);
    const first = packet.items.findIndex(item => !this.state.items[item.code]?.submitted);
    if (first < 0) this.overview(); else this.go(first);
  },
  load() {
    const empty = { packet: this.packet.packet, started: new Date().toISOString(), items: {}, size: 18, theme: "dark" };
    let stored = null;
    try { stored = JSON.parse(localStorage.getItem(this.key)); } catch (error) { byId("saved").textContent = "autosave is off: " + error.message; }
    this.state = stored?.packet === this.packet.packet ? stored : empty;
    this.dress();
  },
  save() {
    try { localStorage.setItem(this.key, JSON.stringify(this.state)); byId("saved").textContent = "saved " + new Date().toLocaleTimeString("sv"); }
    catch (error) { byId("saved").textContent = "NOT SAVED: save the answers file now (" + error.name + ")"; }
  },
  record(code) { return this.state.items[code] ??= { answers: {}, spans: [], seconds: 0, opened: new Date().toISOString(), visits: 0 }; },
  get item() { return this.packet.items[this.index]; },
  go(index) {
    this.tick(); this.index = index; byId("overview").hidden = true; byId("reading").hidden = false;
    const item = this.item, record = this.record(item.code);
    record.visits++; this.since = performance.now();
    byId("reading").classList.toggle("no-images", !item.pictures.length); byId("reading").classList.toggle("no-report", !item.report.length);
    this.reports(); this.form.draw(record, item); this.place(); this.show(item); this.save();
    if (index + 1 < this.packet.items.length) this.fetch(this.packet.items[index + 1]);
    for (const [at, old] of this.packet.items.entries()) if (Math.abs(at - index) > 3) for (const name of old.pictures) delete this.pictures[name];
  },
  reports() { drawReports(byId("reports"), this.item, this.record(this.item.code), this.markable, (place, side, text) => this.mark(place, side, text)); },
  fetch(item) {
    return Promise.all(item.pictures.filter(name => !this.pictures[name]).map(name => new Promise(resolve => {
      this.wanted[name] = resolve;
      const script = make("script", { src: "pictures/" + name + ".js" });
      script.onload = () => script.remove(); script.onerror = () => { byId("loading").textContent = "an image file is missing: " + name; };
      document.head.append(script);
    })));
  },
  async show(item) {
    this.viewer.show([]); await this.fetch(item);
    if (item === this.item) this.viewer.show(item.pictures.flatMap(name => this.pictures[name]));
  },
  changed() { this.last = performance.now(); this.place(); clearTimeout(this.waiting); this.waiting = setTimeout(() => { this.tick(); this.save(); }, 120); },
  place() {
    const done = this.packet.items.filter(item => this.state.items[item.code]?.submitted).length, missing = this.form.missing();
    byId("place").textContent = `item ${this.index + 1} of ${this.packet.items.length}`;
    byId("progress").value = done / this.packet.items.length;
    byId("missing").textContent = missing.length ? `${missing.length} to answer` : "";
    byId("next").classList.toggle("strong", !missing.length);
    byId("next").textContent = this.index + 1 < this.packet.items.length ? "Next" : "Finish";
    byId("back").disabled = this.index === 0;
  },
  next() {
    const missing = this.form.missing();
    if (missing.length) { this.form.activate(this.form.sets.findIndex(set => set.dataset.question === missing[0].id)); this.form.focus(); return; }
    this.tick(); this.record(this.item.code).submitted = new Date().toISOString(); this.save();
    const open = this.packet.items.findIndex((item, at) => at > this.index && !this.state.items[item.code]?.submitted);
    if (this.index + 1 < this.packet.items.length) this.go(this.index + 1); else if (open >= 0) this.go(open); else this.overview();
  },
  back() { if (this.index > 0) this.go(this.index - 1); },
  // Only the time in front of a visible page counts, and at most two minutes without any touch.
  clock() {
    this.last = this.since = performance.now();
    for (const kind of ["pointermove", "keydown", "wheel", "pointerdown"]) addEventListener(kind, () => { this.tick(); this.last = performance.now(); }, { passive: true });
    document.addEventListener("visibilitychange", () => { if (document.hidden) { this.tick(); this.save(); } else this.since = this.last = performance.now(); });
    addEventListener("pagehide", () => { this.tick(); this.save(); });
  },
  tick() {
    const now = performance.now();
    if (this.index !== undefined && !this.paused && !byId("reading").hidden && this.since !== undefined) {
      const record = this.record(this.item.code);
      record.seconds = Math.round((record.seconds + Math.max(0, Math.min(now, this.last + 120000) - this.since) / 1000) * 10) / 10;
    }
    this.since = now;
  },
  pause() { this.tick(); this.paused = true; this.save(); this.curtain("Paused", "The clock stands still. Close this to go on.", true, () => { this.paused = false; this.since = this.last = performance.now(); }); },
  curtain(title, text, closable, closed) {
    const box = byId("curtain"); box.replaceChildren(make("h2", { textContent: title }), make("p", { textContent: text }));
    if (closable) box.append(make("button", { textContent: "Go on", className: "strong", autofocus: true, onclick: () => box.close() }));
    box.oncancel = event => { if (!closable) event.preventDefault(); };
    box.onclose = () => closed?.(); box.showModal();
  },
  mark(sentence, side, text) {
    const box = byId("marking"), record = this.record(this.item.code), old = record.spans.find(span => span.sentence === sentence && span.side === side);
    let category = old?.category, significance = old?.significance ?? "";
    const rest = () => record.spans.filter(span => span !== old);
    const close = spans => { record.spans = spans; box.close(); this.reports(); this.changed(); byId("reports").querySelector(`li[data-place="${sentence}"][data-side="${side}"]`)?.focus(); };
    const draw = () => {
      const pick = (entries, value, set, offset) => entries.map(([code, label], index) => make("button", { className: value === code ? "strong" : "", onclick: () => { set(code); draw(); } }, make("kbd", { textContent: offset[index] }), " " + label));
      box.replaceChildren(make("p", { textContent: text }),
        make("div", { className: "grid" }, ...pick(this.packet.categories, category, code => { category = code; }, "1234567890")),
        make("p", {}, ...pick(this.packet.significance, significance, code => { significance = code; }, "SN")),
        make("p", {}, make("button", { className: "strong", textContent: "Keep (Enter)", disabled: !category, onclick: () => close([...rest(), { sentence, side, category, significance }]) }), " ",
          make("button", { textContent: "Remove the mark (Delete)", onclick: () => close(rest()) }), " ", make("button", { textContent: "Cancel (Esc)", onclick: () => box.close() })));
      box.focus();
    };
    box.tabIndex = -1;
    box.onkeydown = event => {
      const at = "1234567890".indexOf(event.key), sign = { s: 0, n: 1 }[event.key.toLowerCase()];
      if (at >= 0 && this.packet.categories[at]) category = this.packet.categories[at][0];
      else if (sign !== undefined) significance = this.packet.significance[sign][0];
      else if (event.key === "Delete") return close(rest());
      else if (event.key === "Enter" && category) { event.preventDefault(); return close([...rest(), { sentence, side, category, significance }]); }
      else return;
      event.preventDefault(); draw();
    };
    draw(); box.showModal();
  },
  answers() {
    const { packet, reader, session, commitment, form, items } = this.packet;
    const rows = items.map((item, index) => ({ code: item.code, position: index + 1, ...(this.state.items[item.code] ?? { answers: {}, spans: [], seconds: 0, visits: 0 }) }));
    const data = { format: "medvlm-answers", version: 1, packet, reader, session, commitment, form: form.id, form_version: form.version, started: this.state.started, items: rows };
    return { ...data, digest: sha256(canonical(data)) };
  },
  download() {
    this.tick(); this.save();
    const link = make("a", { href: URL.createObjectURL(new Blob([JSON.stringify(this.answers(), null, 1)], { type: "application/json" })), download: `answers-${this.packet.reader}-session-${this.packet.session}.json` });
    document.body.append(link); link.click(); link.remove();
  },
  async restore(file) {
    try {
      const { digest, ...data } = JSON.parse(await file.text());
      if (data.packet !== this.packet.packet) throw new Error("these are answers of another session");
      if (digest !== sha256(canonical(data))) throw new Error("the file was changed after it was saved");
      this.state.started = data.started;
      for (const { code, position, ...record } of data.items) if (record.visits) this.state.items[code] = record;
      this.save(); this.overview();
    } catch (error) { this.curtain("Not loaded", String(error.message), true); }
  },
  overview() {
    this.tick(); byId("reading").hidden = true;
    const root = byId("overview"), items = this.packet.items, done = items.filter(item => this.state.items[item.code]?.submitted).length;
    root.hidden = false;
    const rows = items.map((item, index) => {
      const record = this.state.items[item.code];
      return make("tr", {}, make("td", { textContent: index + 1 }), make("td", { textContent: item.code }), make("td", { textContent: record?.submitted ? "done" : record ? "begun" : "open" }),
        make("td", { textContent: record ? Math.round(record.seconds) + " s" : "" }), make("td", {}, make("button", { textContent: "open", onclick: () => this.go(index) })));
    });
    const chooser = make("input", { type: "file", accept: ".json", hidden: true, onchange: () => chooser.files[0] && this.restore(chooser.files[0]) });
    root.replaceChildren(make("h1", { textContent: done === items.length ? "All items are done" : `${done} of ${items.length} items are done` }),
      make("p", { textContent: done === items.length ? "Save the answers file and give it to the coordinator of the study." : "You can stop at any time: your answers stay in this browser on this computer." }),
      make("div", { className: "buttons" }, make("button", { id: "save", className: "strong", textContent: "Save the answers file (S)", onclick: () => this.download() }),
        make("button", { textContent: "Go on reading", onclick: () => this.go(Math.max(0, items.findIndex(item => !this.state.items[item.code]?.submitted))) }),
        make("button", { textContent: "Load an answers file", onclick: () => chooser.click() }), chooser),
      make("table", {}, make("thead", {}, make("tr", {}, ...["", "item", "state", "time", ""].map(text => make("th", { textContent: text })))), make("tbody", {}, ...rows)));
    byId("progress").value = done / items.length; byId("place").textContent = "overview"; byId("save").focus();
  },
  dress() { document.documentElement.dataset.theme = this.state.theme; document.documentElement.style.setProperty("--size", this.state.size + "px"); byId("theme").textContent = this.state.theme === "dark" ? "Light" : "Dark"; },
  grow(by) { this.state.size = Math.min(34, Math.max(12, this.state.size + by)); this.dress(); this.save(); },
  theme() { this.state.theme = this.state.theme === "dark" ? "light" : "dark"; this.dress(); this.save(); },
  help() {
    const keys = [["1 ... 9", "answer the marked question"], ["Tab, J, K", "next, next, previous question"], ["Enter / Shift+Enter", "next / previous item"], ["arrow up, down", "slices"], ["[ ]", "previous, next image"], ["arrow left, right", "narrower, wider window (with Shift: darker, brighter)"], ["+ - 0", "zoom in, out, reset the view"], ["W, I, R", "next window, invert, reset"], ["M", "first sentence of the report; Tab to the next, Enter marks it as wrong"], ["E", "fill the edit field with the preferred report"], ["P, D, O", "pause, dark or light, overview"], ["mouse", "drag: window; Shift+drag: move; right drag or Ctrl+wheel: zoom; wheel: slices"]];
    const box = byId("help"); box.replaceChildren(make("h2", { textContent: "Keys" }), make("dl", {}, ...keys.flatMap(([key, what]) => [make("dt", {}, make("kbd", { textContent: key })), make("dd", { textContent: what })])), make("button", { textContent: "Close", className: "strong", autofocus: true, onclick: () => box.close() }));
    box.showModal();
  },
  buttons() {
    const actions = { pause: () => this.pause(), smaller: () => this.grow(-2), larger: () => this.grow(2), theme: () => this.theme(), keys: () => this.help(), finish: () => this.overview(), back: () => this.back(), next: () => this.next(), previousStack: () => this.viewer.step(-1), nextStack: () => this.viewer.step(1), preset: () => this.viewer.nextPreset(), invert: () => this.viewer.invert(), reset: () => this.viewer.reset() };
    for (const [id, action] of Object.entries(actions)) byId(id).addEventListener("click", action);
    byId("form").addEventListener("submit", event => event.preventDefault());
    addEventListener("keydown", event => this.press(event));
  },
  press(event) {
    if (document.querySelector("dialog[open]") || event.ctrlKey || event.altKey || event.metaKey) return;
    const target = event.target, typing = target.matches?.("textarea,input[type=number]");
    if (typing) { if (event.key === "Escape") target.blur(); else if (event.key === "Enter" && target.matches("input")) { event.preventDefault(); this.form.activate(this.form.active + 1); this.form.focus(); } return; }
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!byId("overview").hidden) { if (key === "s") this.download(); return; }
    if (key === "Enter") { if (target.matches?.("button")) return; if (target.dataset?.place) { target.click(); event.preventDefault(); return; } event.preventDefault(); if (event.shiftKey) this.back(); else this.next(); return; }
    if (/^[1-9]$/.test(key)) { if (this.form.digit(+key)) event.preventDefault(); return; }
    // With slices on the screen the arrows scroll them, whatever has the focus: no answer changes by accident.
    const scrolls = this.viewer.stack?.count > 1 && !target.matches?.("input[type=range]");
    if (target.matches?.("input[type=radio],input[type=range]") && key.startsWith("Arrow") && !scrolls) return;
    const v = this.viewer, wide = event.shiftKey ? [0, 12] : [12, 0], minus = wide.map(x => -x);
    const keys = { ArrowUp: () => v.go(v.slice - 1), ArrowDown: () => v.go(v.slice + 1), ArrowRight: () => v.level(...wide), ArrowLeft: () => v.level(...minus), PageUp: () => v.go(v.slice - 5), PageDown: () => v.go(v.slice + 5), "[": () => v.step(-1), "]": () => v.step(1), "+": () => v.zoomBy(1.2), "-": () => v.zoomBy(1 / 1.2), 0: () => v.reset(), w: () => v.nextPreset(), i: () => v.invert(), r: () => v.reset(), j: () => { this.form.activate(this.form.active + 1); this.form.focus(); }, k: () => { this.form.activate(this.form.active - 1); this.form.focus(); }, m: () => byId("reports").querySelector("li[tabindex]")?.focus(), e: () => { for (const area of document.querySelectorAll("textarea.edit")) area.fill(); }, p: () => this.pause(), d: () => this.theme(), o: () => this.overview(), "?": () => this.help() };
    if (keys[key]) { if (key.startsWith("Arrow") && !v.stack) return; keys[key](); event.preventDefault(); }
  },
};
