// The image viewer: slices, window and level, zoom and pan, from pixels that the packet carries.
const PRESETS = { HU: [["lung", -600, 1500], ["soft tissue", 50, 400], ["bone", 400, 1800], ["brain", 40, 80]] };
class Viewer {
  constructor(stage, canvas, readout, slider) {
    Object.assign(this, { stage, canvas, readout, slider, stacks: [], index: 0, slice: 0, preset: -1 });
    this.picture = document.createElement("canvas");
    new ResizeObserver(() => this.draw()).observe(stage);
    slider.addEventListener("input", () => this.go(+slider.value));
    stage.addEventListener("wheel", event => {
      event.preventDefault();
      if (event.ctrlKey) this.zoomBy(event.deltaY < 0 ? 1.15 : 1 / 1.15); else this.go(this.slice + Math.sign(event.deltaY));
    }, { passive: false });
    stage.addEventListener("contextmenu", event => event.preventDefault());
    stage.addEventListener("pointerdown", event => { stage.setPointerCapture(event.pointerId); this.drag = event; stage.focus(); });
    stage.addEventListener("pointerup", () => { this.drag = null; });
    stage.addEventListener("pointermove", event => this.move(event));
    stage.addEventListener("dblclick", () => this.reset());
  }
  show(stacks) {
    this.stacks = stacks; this.index = 0;
    document.getElementById("loading").hidden = stacks.length > 0;
    for (const id of ["previousStack", "nextStack"]) document.getElementById(id).hidden = stacks.length < 2;
    this.open();
  }
  get stack() { return this.stacks[this.index]; }
  open() {
    const stack = this.stack;
    if (!stack) return this.draw();
    this.slice = Math.floor((stack.count - 1) / 2);
    this.slider.max = stack.count - 1;
    this.slider.parentElement.style.visibility = stack.count > 1 ? "visible" : "hidden";
    document.getElementById("preset").hidden = stack.colour;
    this.reset();
  }
  step(by) { if (this.stacks.length > 1) { this.index = (this.index + by + this.stacks.length) % this.stacks.length; this.open(); } }
  reset() {
    if (!this.stack) return;
    Object.assign(this, { centre: this.stack.centre, width: this.stack.width, zoom: 1, x: 0, y: 0, inverted: false, preset: -1 });
    this.go(this.slice);
  }
  nextPreset() {
    const list = PRESETS[this.stack?.unit] || [];
    if (!list.length) return this.reset();
    this.preset = (this.preset + 1) % list.length;
    [, this.centre, this.width] = list[this.preset]; this.draw();
  }
  invert() { this.inverted = !this.inverted; this.draw(); }
  zoomBy(factor) { this.zoom = Math.min(20, Math.max(.2, this.zoom * factor)); this.draw(); }
  level(dx, dy) { this.width = Math.max(1e-3, this.width + dx * this.stack.width / 300); this.centre += dy * this.stack.width / 300; this.draw(); }
  move(event) {
    if (!this.drag || !this.stack) return;
    const dx = event.clientX - this.drag.clientX, dy = event.clientY - this.drag.clientY;
    const button = this.drag.button; this.drag = { clientX: event.clientX, clientY: event.clientY, button };
    if (button === 1 || event.shiftKey) { this.x += dx; this.y += dy; this.draw(); }
    else if (button === 2 || event.ctrlKey) this.zoomBy(Math.exp(-dy / 150));
    else if (!this.stack.colour) this.level(dx, dy);
  }
  async go(slice) {
    const stack = this.stack;
    if (!stack) return;
    this.slice = Math.min(stack.count - 1, Math.max(0, slice)); this.slider.value = this.slice;
    await this.decode(stack, this.slice);
    if (stack === this.stack) this.draw();
    for (const near of [1, -1, 2, -2]) this.decode(stack, this.slice + near);
  }
  async decode(stack, index) {
    stack.ready ??= []; stack.waiting ??= [];
    if (index < 0 || index >= stack.count || stack.ready[index]) return;
    stack.waiting[index] ??= (async () => {
      const packed = Uint8Array.from(atob(stack.slices[index]), c => c.charCodeAt(0));
      const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
      const bytes = new Uint8Array(await new Response(stream).arrayBuffer()), n = stack.rows * stack.columns;
      if (stack.colour) { stack.ready[index] = bytes; return; }
      const values = new Uint16Array(n);
      for (let row = 0, i = 0; row < stack.rows; row++)
        for (let column = 0, value = 0; column < stack.columns; column++, i++) values[i] = value = value + (bytes[i] << 8 | bytes[n + i]) & 65535;
      stack.ready[index] = values;
    })();
    await stack.waiting[index];
  }
  draw() {
    const box = this.stage.getBoundingClientRect(), ratio = devicePixelRatio || 1, context = this.canvas.getContext("2d");
    this.canvas.width = box.width * ratio; this.canvas.height = box.height * ratio;
    const stack = this.stack, pixels = stack?.ready?.[this.slice];
    this.readout.textContent = "";
    if (!pixels) return;
    this.picture.width = stack.columns; this.picture.height = stack.rows;
    const inner = this.picture.getContext("2d"), image = inner.createImageData(stack.columns, stack.rows), out = image.data;
    const low = this.centre - this.width / 2, flip = this.inverted ? 255 : 0, n = stack.rows * stack.columns;
    if (stack.colour) for (let i = 0; i < n; i++) { for (let c = 0; c < 3; c++) out[4 * i + c] = flip ^ pixels[3 * i + c]; out[4 * i + 3] = 255; }
    else {
      const scale = 255 * stack.slope / this.width, shift = 255 * (stack.intercept - low) / this.width;
      for (let i = 0; i < n; i++) { const grey = flip ^ Math.min(255, Math.max(0, pixels[i] * scale + shift)); out[4 * i] = out[4 * i + 1] = out[4 * i + 2] = grey; out[4 * i + 3] = 255; }
    }
    inner.putImageData(image, 0, 0);
    const fit = Math.min(this.canvas.width / stack.columns, this.canvas.height / (stack.rows * stack.aspect)) * this.zoom;
    const w = stack.columns * fit, h = stack.rows * stack.aspect * fit;
    context.imageSmoothingEnabled = fit < 4;
    context.drawImage(this.picture, (this.canvas.width - w) / 2 + this.x * ratio, (this.canvas.height - h) / 2 + this.y * ratio, w, h);
    const parts = [stack.count > 1 ? `slice ${this.slice + 1}/${stack.count}` : "", this.stacks.length > 1 ? `image ${this.index + 1}/${this.stacks.length}` : ""];
    if (!stack.colour) parts.push(`C ${Math.round(this.centre)} W ${Math.round(this.width)}${this.preset >= 0 ? " " + PRESETS[stack.unit][this.preset][0] : ""}`);
    parts.push(`${Math.round(this.zoom * 100)} %`);
    this.readout.textContent = parts.filter(Boolean).join("   ");
  }
}
