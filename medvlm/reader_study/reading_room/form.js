// The rating form of one item: draws the questions, reads and sets the answers, marks sentences.
const make = (tag, properties = {}, ...children) => { const node = Object.assign(document.createElement(tag), properties); node.append(...children); return node; };
class RatingForm {
  constructor(root, questions, changed) { Object.assign(this, { root, questions, changed, active: 0 }); }
  draw(record, item) {
    this.record = record; this.root.replaceChildren();
    let section = "";
    this.sets = [];
    for (const question of this.questions) {
      if (question.kind === "spans") continue;
      if (question.section && question.section !== section) this.root.append(make("h4", { textContent: section = question.section }));
      this.root.append(this.set(question, item));
    }
    const first = this.sets.findIndex(set => !record.answers[set.dataset.question]);
    this.activate(Math.max(0, first));
    this.root.scrollTop = 0;
  }
  set(question, item) {
    const set = make("fieldset"), number = this.sets.push(set) - 1, value = this.record.answers[question.id];
    set.dataset.question = question.id;
    set.append(make("legend", {}, question.text, question.required ? make("span", { className: "need", textContent: " *", title: "needed" }) : ""));
    if (question.help) set.append(make("small", { textContent: question.help }));
    if (question.options) question.options.forEach(([code, label], index) => {
      const radio = make("input", { type: "radio", name: question.id, value: code, checked: value === code });
      radio.addEventListener("change", () => this.answer(question.id, code));
      set.append(make("label", { className: "option" }, radio, make("kbd", { textContent: index + 1 }), make("span", { textContent: label })));
    });
    else if (question.kind === "slider") {
      const range = make("input", { type: "range", min: question.minimum, max: question.maximum, step: 1, value: value ?? (question.minimum + question.maximum) / 2 });
      const exact = make("input", { type: "number", min: question.minimum, max: question.maximum, value: value ?? "" });
      range.addEventListener("input", () => { exact.value = range.value; this.answer(question.id, range.value); });
      exact.addEventListener("input", () => { if (exact.value !== "") range.value = exact.value; this.number(question, exact.value); });
      set.append(range, exact);
    } else if (question.kind === "count") {
      const exact = make("input", { type: "number", min: question.minimum, max: question.maximum ?? "", step: 1, value: value ?? "", ariaLabel: question.text });
      exact.addEventListener("input", () => this.number(question, exact.value));
      set.append(exact);
    } else {
      const area = make("textarea", { className: question.kind, value: value ?? "", ariaLabel: question.text });
      if (question.kind === "edit" && value === undefined) area.placeholder = "E fills in the preferred report";
      area.addEventListener("input", () => this.answer(question.id, area.value));
      if (question.kind === "edit") area.fill = () => { area.value = plainText(item, this.record.answers.preference); this.answer(question.id, area.value); area.focus(); };
      set.append(area);
    }
    set.addEventListener("focusin", () => this.activate(number));
    return set;
  }
  number(question, text) {
    const value = Number(text), top = question.maximum ?? Infinity;
    const good = text !== "" && value >= question.minimum && value <= top && (question.kind !== "count" || Number.isInteger(value));
    this.answer(question.id, good ? String(value) : "");
  }
  answer(id, value) {
    if (value === "" || value === undefined) delete this.record.answers[id]; else this.record.answers[id] = value;
    this.changed();
  }
  activate(number) {
    this.active = Math.min(this.sets.length - 1, Math.max(0, number));
    this.sets.forEach((set, index) => set.classList.toggle("active", index === this.active));
    this.sets[this.active]?.scrollIntoView({ block: "nearest" });
  }
  digit(number) {
    const radio = this.sets[this.active]?.querySelectorAll("input[type=radio]")[number - 1];
    const field = this.sets[this.active]?.querySelector("input[type=number]");
    if (radio) { radio.checked = true; this.answer(radio.name, radio.value); this.activate(this.active + 1); return true; }
    if (field) { field.focus(); field.value = ""; return false; }
    return true;
  }
  focus() { this.sets[this.active]?.querySelector("input,textarea")?.focus(); }
  missing() { return this.questions.filter(q => q.required && !(q.id in this.record.answers)); }
}
function plainText(item, side) {
  const report = side === "right" && item.right ? item.right : item.report;
  return report.map(part => (part.heading ? part.heading + ":\n" : "") + part.sentences.join("\n")).join("\n\n");
}
function drawReports(root, item, record, markable, mark) {
  root.replaceChildren(); root.classList.toggle("pair", !!item.right); root.classList.toggle("marks", markable);
  const sides = item.right ? [["left", "Left", item.report], ["right", "Right", item.right]] : [["", item.reference ? "Report to rate" : "Report", item.report]];
  if (item.reference) sides.push(["reference", "Reference", item.reference]);
  for (const [side, title, report] of sides) {
    const article = make("article", {}, make("h2", { textContent: title }));
    if (item.note && side !== "right") article.prepend(make("p", { className: "notice", textContent: item.note }));
    let number = 0;
    for (const part of report) {
      if (part.heading) article.append(make("h3", { textContent: part.heading }));
      const list = make("ol");
      for (const text of part.sentences) {
        const place = number++, line = make("li", { textContent: text });
        if (markable && side !== "reference") {
          line.tabIndex = 0; line.dataset.place = place; line.dataset.side = side;
          const found = record.spans.find(span => span.sentence === place && span.side === side);
          if (found) { line.classList.add("marked"); line.append(make("small", { textContent: found.category + (found.significance ? ", " + found.significance : "") })); }
          line.addEventListener("click", () => mark(place, side, text));
        }
        list.append(line);
      }
      article.append(list);
    }
    root.append(article);
  }
}
