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

function clear() {
  panel.replaceChildren();
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
const held = document.getElementById("drawing");
document.getElementById("fit").addEventListener("click", () => held.classList.toggle("fit"));
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
if (location.hash) {
  showNode(decodeURIComponent(location.hash.slice(1)));
  const chosen = document.querySelector(".chosen");
  if (chosen) chosen.scrollIntoView({ block: "nearest", inline: "center" });
}
