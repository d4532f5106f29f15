"use strict";
// The page's numbers are computed; what is left here is to draw, sort and point at them.
const data = JSON.parse(document.getElementById("data").textContent);
const chosen = { metric: data.metrics[0], centre: "mean", single: false, hidden: new Set() };
const SIZE = { width: 640, height: 300, left: 56, right: 12, top: 10, bottom: 36 };
const $ = (id) => document.getElementById(id);

// An element with attributes and children; "svg:" before the name makes one of a drawing.
function make(name, attributes = {}, ...children) {
  const drawing = name.startsWith("svg:");
  const node = drawing ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

function number(value, digits = 4) {
  if (value === null || value === undefined) return "-";
  if (Math.abs(value) >= 1e5) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(digits)));
}

function steps(value) {
  for (const [size, unit] of [[1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= size) return number(value / size, 3) + unit;
  }
  return number(value, 3);
}

// A name's colour and dash, the same in all charts.
const names = [...new Set(data.entries.map((entry) => entry.name))];
function look(name) {
  const index = names.indexOf(name);
  const colour = data.colours[index % data.colours.length];
  const dash = data.dashes[Math.floor(index / data.colours.length) % data.dashes.length];
  return { stroke: colour === "#000000" ? "currentColor" : colour, "stroke-dasharray": dash };
}

// Round numbers that cover a range, about `count` of them.
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step);
  return found;
}

// The entries of a world that can be drawn now, with their places in the list of all.
function drawn(world) {
  return data.entries
    .map((entry, index) => ({ entry, index, curve: entry.curves[chosen.metric] }))
    .filter((one) => one.entry.world === world && one.curve && !chosen.hidden.has(one.index));
}

function path(xs, ys, x, y) {
  let pen = "M";
  let text = "";
  xs.forEach((step, i) => {
    if (ys[i] === null) { pen = "M"; return; }
    text += `${pen}${x(step).toFixed(1)} ${y(ys[i]).toFixed(1)}`;
    pen = "L";
  });
  return text;
}

function chart(world) {
  const lines = drawn(world);
  const box = make("div", { class: "chart" }, make("h3", {}, world));
  const range = { x: [], y: [] };
  for (const { curve } of lines) {
    const centre = curve[chosen.centre];
    if (centre) { range.x.push(...centre[0]); range.y.push(...centre.slice(1).flat()); }
    if (chosen.single || !centre) {
      for (const [xs, ys] of Object.values(curve.seeds)) { range.x.push(...xs); range.y.push(...ys); }
    }
  }
  const ends = (values) => values.filter((v) => v !== null).reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
  if (!range.x.length) return make("div", { class: "chart" }, make("h3", {}, world), make("p", { class: "hint" }, "Nothing of this to show."));
  const [x0, x1] = ends(range.x);
  let [y0, y1] = ends(range.y);
  const margin = 0.05 * (y1 - y0 || Math.abs(y1) || 1);
  [y0, y1] = [y0 - margin, y1 + margin];
  const { width, height, left, right, top, bottom } = SIZE;
  const x = (value) => left + ((value - x0) / (x1 - x0 || 1)) * (width - left - right);
  const y = (value) => height - bottom - ((value - y0) / (y1 - y0)) * (height - top - bottom);
  const svg = make("svg:svg", {
    viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: "img",
    "aria-label": `${chosen.metric} on ${world} by environment steps, of ${lines.map((one) => one.entry.name).join(", ")}; arrow keys read the numbers`,
  });
  for (const tick of ticks(y0, y1, 5)) {
    svg.append(make("svg:line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }),
      make("svg:text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, number(tick)));
  }
  for (const tick of ticks(x0, x1, 6)) {
    svg.append(make("svg:text", { x: x(tick), y: height - bottom + 16, "text-anchor": "middle" }, steps(tick)));
  }
  svg.append(make("svg:text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, "environment steps"));
  for (const { entry, curve, index } of lines) {
    const style = { fill: "none", "stroke-width": 2, ...look(entry.name) };
    const centre = curve[chosen.centre];
    if (chosen.single || !centre) {
      for (const [xs, ys] of Object.values(curve.seeds)) {
        svg.append(make("svg:path", { ...style, d: path(xs, ys, x, y), "stroke-width": 1, opacity: 0.5, class: "seed" }));
      }
    }
    if (!centre) continue;
    const [xs, middle, low, high] = centre;
    if (low.every((value) => value !== null)) {
      const back = path([...xs].reverse(), [...high].reverse(), x, y).replace("M", "L");
      svg.append(make("svg:path", { d: path(xs, low, x, y) + back + "Z", fill: style.stroke, opacity: 0.18, class: "band" }));
    }
    svg.append(make("svg:path", { ...style, d: path(xs, middle, x, y), class: "line", "data-series": index }));
  }
  box.append(svg);
  point(box, svg, lines, x, [x0, x1]);
  return box;
}

// A line that follows the pointer or the arrow keys, with the numbers where it stands.
function point(box, svg, lines, x, [x0, x1]) {
  const all = [...new Set(lines.flatMap(({ curve }) => (curve[chosen.centre] || Object.values(curve.seeds)[0])[0]))].sort((a, b) => a - b);
  const cursor = make("svg:line", { class: "cursor", y1: SIZE.top, y2: SIZE.height - SIZE.bottom, visibility: "hidden" });
  const tip = make("div", { class: "tip", hidden: true });
  let at = null;
  const nearest = (values, step) => values.reduce((best, v, i) => (Math.abs(v - step) < Math.abs(values[best] - step) ? i : best), 0);
  function show(index) {
    at = Math.max(0, Math.min(all.length - 1, index));
    const step = all[at];
    const rows = lines.flatMap(({ entry, curve }) => {
      const centre = curve[chosen.centre];
      if (!centre) return [];
      const i = nearest(centre[0], step);
      const interval = centre[2][i] === null ? "" : ` [${number(centre[2][i], 3)}, ${number(centre[3][i], 3)}]`;
      return [{ colour: look(entry.name).stroke, text: `${entry.name} ${number(centre[1][i])}${interval}`, value: centre[1][i] }];
    }).sort((a, b) => b.value - a.value);
    cursor.setAttribute("x1", x(step));
    cursor.setAttribute("x2", x(step));
    cursor.setAttribute("visibility", "visible");
    const swatch = (colour) => make("b", { style: `background: ${colour}` });
    tip.replaceChildren(make("div", {}, `${steps(step)} steps`), ...rows.map((row) => make("div", {}, swatch(row.colour), row.text)));
    tip.hidden = false;
    const share = x(step) / SIZE.width;
    tip.style.left = share < 0.5 ? `calc(${100 * share}% + .75rem)` : "auto";
    tip.style.right = share < 0.5 ? "auto" : `calc(${100 * (1 - share)}% + .75rem)`;
    return `${steps(step)} steps: ${rows.map((row) => row.text).join("; ")}`;
  }
  function hide() {
    at = null;
    tip.hidden = true;
    cursor.setAttribute("visibility", "hidden");
  }
  svg.append(cursor);
  box.append(tip);
  svg.addEventListener("pointermove", (event) => {
    const bounds = svg.getBoundingClientRect();
    const share = ((event.clientX - bounds.left) / bounds.width * SIZE.width - SIZE.left) / (SIZE.width - SIZE.left - SIZE.right);
    show(nearest(all, x0 + share * (x1 - x0)));
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };
    if (event.key === "Escape") return hide();
    if (!(event.key in moves)) return undefined;
    event.preventDefault();
    const from = at === null ? (moves[event.key] > 0 ? -1 : all.length) : at;
    $("spoken").textContent = show(from + moves[event.key]);
    return undefined;
  });
}

function draw() {
  $("charts").replaceChildren(...data.worlds.map(chart));
}

// A table whose columns sort: {name, text(row), value(row) or nothing for text}.
function sortable(place, columns, rows) {
  const body = make("tbody");
  const heads = columns.map((column, index) => make("th", { scope: "col", class: column.value ? "number" : null },
    make("button", { type: "button", onclick: () => sort(index) }, column.name)));
  function fill(order) {
    body.replaceChildren(...order.map((row) => make("tr", {}, ...columns.map((column) =>
      make("td", { class: column.value ? "number" : "break" }, column.text(row))))));
  }
  function sort(index) {
    const column = columns[index];
    const value = column.value || column.text;
    const first = column.value ? "descending" : "ascending";
    const now = heads[index].getAttribute("aria-sort");
    const next = now === null ? first : now === "ascending" ? "descending" : "ascending";
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[index].setAttribute("aria-sort", next);
    const sign = next === "ascending" ? 1 : -1;
    const missing = (v) => v === null || v === undefined;
    fill([...rows].sort((a, b) => {
      const [one, other] = [value(a), value(b)];
      if (missing(one) || missing(other)) return missing(one) - missing(other); // what is not known comes last
      const numbers = Number(one) - Number(other);
      return sign * (Number.isNaN(numbers) ? String(one).localeCompare(String(other), "en") : numbers);
    }));
  }
  fill(rows);
  place.replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body));
}

function results() {
  const half = (mean) => (mean.interval[0] === null ? " (1 seed)" : ` ± ${number((mean.interval[1] - mean.interval[0]) / 2, 2)}`);
  const range = ({ iqm, values }) => number(iqm.value) + (values.length > 1 ? ` [${iqm.interval.map((end) => number(end, 3)).join(", ")}]` : "");
  const columns = [
    { name: "algorithm", text: (e) => e.name },
    { name: "world", text: (e) => e.world },
    { name: "preset", text: (e) => e.preset },
    { name: "seeds finished", text: (e) => `${e.finished.length} of ${e.seeds.length}`, value: (e) => e.finished.length },
    { name: "test return, mean ± 95%", text: (e) => (e.final ? number(e.final.mean.mean) + half(e.final.mean) : "-"), value: (e) => e.final && e.final.mean.mean },
    { name: "median", text: (e) => number(e.final && e.final.median), value: (e) => e.final && e.final.median },
    { name: "IQM [95%]", text: (e) => (e.final ? range(e.final) : "-"), value: (e) => e.final && e.final.iqm.value },
    { name: "steps", text: (e) => steps(e.steps), value: (e) => e.steps },
    { name: "minutes", text: (e) => number(e.minutes, 3), value: (e) => e.minutes },
  ];
  for (const [name, words] of Object.entries(data.acted)) {
    if (data.entries.some((entry) => entry.acted[name] !== null)) {
      columns.push({ name: words, text: (e) => number(e.acted[name]), value: (e) => e.acted[name] });
    }
  }
  sortable($("results-table"), columns, data.entries);
  for (const entry of data.entries) {
    for (const line of entry.lacking) {
      $("results-table").append(make("p", { class: "hint" }, `${entry.name} on ${entry.world}: ${line}.`));
    }
  }
}

function settings() {
  const text = (value) => (value === null ? "-" : String(value));
  const rows = Object.entries(data.differences);
  const columns = [{ name: "setting", text: (row) => row[0] }]
    .concat(data.entries.map((entry, i) => ({ name: `${entry.name} on ${entry.world}`, text: (row) => text(row[1][i]) })));
  if (rows.length) sortable($("settings-table"), columns, rows);
  else $("settings-table").append(make("p", { class: "hint" }, "All runs have the same settings."));
  data.entries.forEach((entry, i) => {
    const lines = Object.entries(data.settings[i]).map(([name, value]) => `${name}: ${text(value)}`);
    $("all-settings").append(make("details", {}, make("summary", {}, `${entry.name} on ${entry.world}`), make("pre", {}, lines.join("\n"))));
    $("command-list").append(make("h3", {}, `${entry.name} on ${entry.world}`),
      ...entry.runs.flatMap((run, k) => [make("p", { class: "hint" }, run), make("pre", {}, entry.commands[k])]));
  });
  sortable($("versions-table"), [{ name: "what", text: (row) => row[0] }, { name: "value", text: (row) => row[1].join(" and ") }], Object.entries(data.versions));
}

function controls() {
  $("metric").append(...data.metrics.map((name) => make("option", { value: name }, name.replaceAll("_", " "))));
  $("metric").addEventListener("change", (event) => { chosen.metric = event.target.value; draw(); });
  $("centre").addEventListener("change", (event) => { chosen.centre = event.target.value; draw(); });
  $("single").addEventListener("change", (event) => { chosen.single = event.target.checked; draw(); });
  data.entries.forEach((entry, index) => {
    const swatch = make("svg:svg", { viewBox: "0 0 28 10", "aria-hidden": "true" }, make("svg:path", { d: "M0 5H28", "stroke-width": 3, ...look(entry.name) }));
    const box = make("input", { type: "checkbox", checked: true, onchange: (event) => {
      if (event.target.checked) chosen.hidden.delete(index);
      else chosen.hidden.add(index);
      draw();
    } });
    const seeds = `${entry.seeds.length} seed${entry.seeds.length === 1 ? "" : "s"}`;
    const where = data.worlds.length > 1 ? ` on ${entry.world}` : "";
    $("series").append(make("label", {}, box, swatch, `${entry.name}${where} (${seeds})`));
  });
  $("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
}

controls();
draw();
results();
settings();
