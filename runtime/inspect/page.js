"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const panel = document.getElementById("panel");
const nodes = new Map(data.nodes.map((node) => [node.name, node]));
const fields = new Map((data.request || []).map((field) => [field.name, field]));
const each = (query, act) => document.querySelectorAll(query).forEach(act);

function add(tag, text, into = panel) {
  const made = document.createElement(tag);
  made.textContent = text;
  into.append(made);
  return made;
}

function list(title, rows) {
  if (!rows.length) return;
  add("h3", title);
  const table = add("table", "");
  for (const row of rows) {
    const line = add("tr", "", table);
    for (const cell of row) add("td", cell || "", line);
  }
}

function bytes(number) {
  if (number === undefined) return "";
  let rest = number;
  for (const unit of ["B", "KB", "MB", "GB"]) {
    if (rest < 1000 || unit === "GB") return unit === "B" ? `${rest} B` : `${rest.toFixed(1)} ${unit}`;
    rest /= 1000;
  }
}

function ports(rows) {
  return (rows || []).map((p) => [
    p.name,
    p.type + (p.axes ? ` [${p.axes}]` : "") + (p.source ? `\n← ${p.source}` : "") + (p.value ? ` = ${p.value}` : ""),
    p.about,
  ]);
}

function close() {
  panel.hidden = true;
  each(".chosen, .near, .hit", (one) => one.classList.remove("chosen", "near", "hit"));
  history.replaceState(null, "", location.pathname + location.search);
}

function clear() {
  panel.replaceChildren();
  panel.hidden = false;
  const button = add("button", "×");
  button.className = "close";
  button.setAttribute("aria-label", "close");
  button.addEventListener("click", close);
  each(".chosen, .near, .hit", (one) => one.classList.remove("chosen", "near", "hit"));
}

function showNode(name) {
  const node = nodes.get(name);
  if (!node) return;
  clear();
  const box = `node ${name}`;
  each(".node", (one) => one.classList.toggle("chosen", one.dataset.box === box));
  each(".edge", (one) => one.classList.toggle("near", [one.dataset.from, one.dataset.to].includes(box)));
  add("h2", name);
  add("code", node.type);
  if (node.help) add("p", node.help);
  if (node.dropped) add("p", `Dropped by ${node.dropped}`);
  add("h3", `Declaration, ${node.file}:${node.line}`);
  add("pre", node.declaration);
  if (node.doc) { add("h3", "Docstring"); add("pre", node.doc); }
  list("Inputs", ports(node.inputs));
  list("Outputs", ports(node.outputs));
  list("Parameters", Object.entries(node.params || {}));
  list("Components", Object.entries(node.components || {}).map(([field, name]) => {
    const known = (data.components || []).find((c) => c.name === name) || {};
    return [field, field === name ? "" : name, [known.class_name, known.dtype, bytes(known.nbytes)].filter(Boolean).join(" "), known.path];
  }));
  const facts = [["written", node.written]];
  if (node.key) facts.push(["content key", node.key]);
  if (node.nbytes !== undefined) facts.push(["predicted", bytes(node.nbytes)]);
  if (node.cost) {
    facts.push(["took", `${node.cost.milliseconds.toFixed(1)} ms`]);
    if (node.cost.nbytes) facts.push(["in use after", bytes(node.cost.nbytes)], ["peak", bytes(node.cost.peak_nbytes)]);
  }
  list("Facts", facts);
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
}

function showField(asked) {
  const field = fields.get(asked.replace("request.", ""));
  clear();
  each("text[data-asks]", (one) => {
    if (one.dataset.asks !== asked && !(field && field.type === "seed" && one.dataset.asks === "request.rng")) return;
    one.classList.add("hit");
    one.closest(".node").classList.add("hit");
  });
  add("h2", asked);
  if (!field) return;
  if (field.help) add("p", field.help);
  list("Field", ["type", "value", "unit", "default", "limits"].filter((k) => field[k]).map((k) => [k, field[k]]));
  list("Read by", (field.readers || []).map((reader) => [reader]));
}

each(".node", (one) => {
  const name = one.dataset.box.replace("node ", "");
  one.addEventListener("click", (event) => {
    const asked = event.target.dataset && event.target.dataset.asks;
    if (asked) showField(asked); else showNode(name);
  });
  one.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); showNode(name); } });
});
each("text[data-field]", (one) => one.addEventListener("click", () => showField(one.dataset.field)));
document.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });

// The drawing is moved and zoomed by its view box. `whole` shows all of it.
const drawing = document.getElementById("drawing");
const picture = drawing.querySelector("svg");
const whole = picture.getBBox();
const margin = 12;
let view = {};

function look(x, y, width) {
  const height = width * drawing.clientHeight / Math.max(drawing.clientWidth, 1);
  view = { x, y, width, height };
  picture.setAttribute("viewBox", `${x} ${y} ${width} ${height}`);
}

function fit() {
  const ideal = drawing.clientWidth * (whole.height + 2 * margin) / (whole.width + 2 * margin);
  drawing.style.height = `${Math.min(Math.max(ideal, 280), 0.8 * innerHeight)}px`;
  const ratio = drawing.clientWidth / Math.max(drawing.clientHeight, 1);
  const width = Math.max(whole.width + 2 * margin, (whole.height + 2 * margin) * ratio);
  look(whole.x - (width - whole.width) / 2, whole.y - margin, width);
}

function zoom(factor, x = drawing.clientWidth / 2, y = drawing.clientHeight / 2) {
  const scale = view.width / drawing.clientWidth;
  const width = Math.min(Math.max(view.width * factor, 150), 8 * whole.width);
  const rest = width / view.width;
  look(view.x + x * scale * (1 - rest), view.y + y * scale * (1 - rest), width);
}

picture.removeAttribute("width");
picture.removeAttribute("height");
fit();
addEventListener("resize", fit);
document.getElementById("fit").addEventListener("click", fit);
document.getElementById("in").addEventListener("click", () => zoom(0.8));
document.getElementById("out").addEventListener("click", () => zoom(1.25));
drawing.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  const at = drawing.getBoundingClientRect();
  zoom(event.deltaY > 0 ? 1.12 : 0.89, event.clientX - at.left, event.clientY - at.top);
}, { passive: false });
let grip = null;
drawing.addEventListener("pointerdown", (event) => { grip = { x: event.clientX, y: event.clientY, view }; });
addEventListener("pointermove", (event) => {
  if (!grip || !event.buttons) return;
  const scale = grip.view.width / drawing.clientWidth;
  look(grip.view.x - (event.clientX - grip.x) * scale, grip.view.y - (event.clientY - grip.y) * scale, grip.view.width);
});
addEventListener("pointerup", () => { grip = null; });

// Edges of the request would hide all others, so they are drawn only when they are asked for.
function place(element, right) {
  const box = element.getBoundingClientRect();
  const at = new DOMPoint(right ? box.right : box.left, box.top + box.height / 2);
  return at.matrixTransform(picture.getScreenCTM().inverse());
}

document.getElementById("asks").addEventListener("click", (event) => {
  const shows = event.target.getAttribute("aria-pressed") !== "true";
  event.target.setAttribute("aria-pressed", String(shows));
  each(".ask-edge", (one) => one.remove());
  if (!shows) return;
  each("text[data-asks]", (to) => {
    const name = to.dataset.asks.replace("request.", "");
    const from = document.querySelector(`text[data-field="request.${name}"], text[data-field="${name}"]`);
    if (!from) return;
    const [a, b] = [place(from, true), place(to, false)];
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("class", "ask-edge");
    path.setAttribute("d", `M ${a.x} ${a.y} C ${(a.x + b.x) / 2} ${a.y}, ${(a.x + b.x) / 2} ${b.y}, ${b.x} ${b.y}`);
    picture.append(path);
  });
});
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
if (location.hash) {
  showNode(decodeURIComponent(location.hash.slice(1)));
}
