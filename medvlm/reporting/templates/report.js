"use strict";
(() => {
  const { stacks, colours } = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const [viewer, stage, fit, picture, marks, scroll, overlays, place] =
    ["viewer", "stage", "fit", "slice", "marks", "scroll", "overlays", "place"].map(find);
  const state = { stack: 0, at: 0, window: "", lit: [] };

  const nearest = (indices, wanted) =>
    indices.reduce((best, index, at) => (Math.abs(index - wanted) < Math.abs(indices[best] - wanted) ? at : best), 0);

  function draw() {
    const stack = stacks[state.stack];
    const index = stack.indices[state.at];
    picture.src = stack.windows[state.window][state.at];
    const what = (stack.plane ? stack.plane + " slice " : stack.indices.length > 1 ? "frame " : "image ") + index;
    picture.alt = stack.title + ", " + what + ", window " + state.window;
    place.textContent = what + (stack.indices.length > 1 ? " / " + stack.indices[stack.indices.length - 1] : "");
    scroll.value = state.at;
    scroll.setAttribute("aria-valuetext", what);
    marks.replaceChildren();
    if (overlays.checked) {
      for (const [finding, slices] of Object.entries(stack.outlines)) {
        const path = slices[index];
        if (!path || !colours[finding]) continue;
        const shape = document.createElementNS("http://www.w3.org/2000/svg", "path");
        shape.setAttribute("d", path);
        shape.setAttribute("stroke", colours[finding]);
        shape.setAttribute("fill", colours[finding]);
        shape.dataset.finding = finding;
        const lit = state.lit.includes(finding);
        shape.setAttribute("class", lit ? "lit" : state.lit.length ? "dim" : "");
        const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
        title.textContent = finding;
        shape.append(title);
        marks.append(shape);
      }
    }
  }

  function open(number) {
    const stack = stacks[number];
    state.stack = number;
    if (!stack.windows[state.window]) state.window = Object.keys(stack.windows)[0];
    marks.setAttribute("viewBox", "0 0 " + stack.width + " " + stack.height);
    fit.style.aspectRatio = String(stack.aspect);
    fit.style.width = stack.aspect >= 1 ? "100%" : 100 * stack.aspect + "%";
    stage.classList.toggle("sided", Boolean(stack.sides));
    if (stack.sides) [find("left").textContent, find("right").textContent] = stack.sides;
    scroll.max = stack.indices.length - 1;
    scroll.hidden = stack.indices.length < 2;
    const names = Object.keys(stack.windows);
    find("windows").replaceChildren(...(names.length < 2 ? [] : names).map((name) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.setAttribute("aria-pressed", String(name === state.window));
      button.addEventListener("click", () => { state.window = name; press(); draw(); });
      return button;
    }));
  }

  function press() {
    for (const button of find("windows").children) {
      button.setAttribute("aria-pressed", String(button.textContent === state.window));
    }
  }

  function light(findings) {
    state.lit = findings;
    for (const element of document.querySelectorAll(".say, [data-finding]")) {
      if (element.tagName === "path") continue;
      const own = (element.dataset.findings || element.dataset.finding || "").split(" ");
      element.classList.toggle("lit", findings.some((finding) => own.includes(finding)));
    }
    for (const finding of findings) {
      const number = stacks.findIndex((stack) => stack.best[finding] !== undefined && stack.best[finding] !== null);
      if (number < 0) continue;
      const stack = stacks[number];
      if (stack.window_of[finding] && stack.windows[stack.window_of[finding]]) state.window = stack.window_of[finding];
      open(number);
      state.at = nearest(stack.indices, stack.best[finding]);
      break;
    }
    draw();
  }

  function step(by) {
    const last = stacks[state.stack].indices.length - 1;
    state.at = Math.min(Math.max(state.at + by, 0), last);
    draw();
  }

  for (const element of document.querySelectorAll(".say")) {
    element.addEventListener("click", (event) => {
      event.preventDefault();
      overlays.checked = true;
      light(element.dataset.findings.split(" ").filter(Boolean));
      if (viewer.getBoundingClientRect().top < 0) viewer.scrollIntoView({ block: "start" });
    });
  }
  marks.addEventListener("click", (event) => {
    const finding = event.target.dataset && event.target.dataset.finding;
    if (finding) light([finding]);
  });
  overlays.addEventListener("change", draw);
  scroll.addEventListener("input", () => { state.at = Number(scroll.value); draw(); });
  stage.addEventListener("wheel", (event) => {
    if (stacks[state.stack].indices.length < 2) return;
    event.preventDefault();
    step(event.deltaY > 0 ? -1 : 1);
  }, { passive: false });
  viewer.addEventListener("keydown", (event) => {
    const by = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10 }[event.key];
    if (by && event.target !== scroll) { event.preventDefault(); step(by); }
    if (event.key === "o") { overlays.checked = !overlays.checked; draw(); }
  });

  open(0);
  state.at = Math.floor(stacks[0].indices.length / 2);
  const first = document.querySelector(".impression .say[data-findings]");
  const start = Object.keys(colours).find((finding) => stacks.some((stack) => stack.best[finding] != null));
  light(start ? [start] : []);
  if (!start && first) draw();
  if (location.hash.startsWith("#finding-")) light([decodeURIComponent(location.hash.slice(9))]);
})();
