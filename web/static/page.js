"use strict";
// The status page: fetches /api/status every two seconds and draws what it
// says. No library, no request to anywhere else.

const REFRESH_MS = 2000;
const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

function count(n) { return whole.format(n ?? 0); }

function bytes(n) {
  for (const unit of ["B", "KB", "MB", "GB"]) {
    if (n < 1000) return `${n < 10 && unit !== "B" ? n.toFixed(1) : Math.round(n)} ${unit}`;
    n /= 1000;
  }
  return `${n.toFixed(1)} TB`;
}

function seconds(s) {
  if (!s) return "0 s";
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 90) return `${s.toFixed(s < 10 ? 1 : 0)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

function isSet(time) { return time && !time.startsWith("0001-"); }
function ago(time) { return `${seconds(Math.max(0, (Date.now() - Date.parse(time)) / 1000))} ago`; }

function element(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes || {})) e.setAttribute(k, v);
  e.append(...children);
  return e;
}

// table draws rows; a column is [title, cell, "number"|"wrap"]. A cell gives
// text, or {text, class}.
function table(columns, rows) {
  const cell = (tag, text, kind) => element(tag, kind ? { class: kind } : {}, text);
  const head = element("tr", {}, ...columns.map(([title, , kind]) => cell("th", title, kind)));
  const body = rows.map((row) => element("tr", {}, ...columns.map(([, value, kind]) => {
    const v = value(row);
    return v && v.class ? cell("td", v.text, `${kind || ""} ${v.class}`) : cell("td", String(v ?? ""), kind);
  })));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
}

function alarm(n) { return n > 0 ? { text: count(n), class: "bad" } : count(n); }

function figure(name, value, note, kind) {
  return element("div", { class: `figure ${kind || ""}` }, element("div", { class: "name" }, name),
    element("div", { class: "value" }, value), element("div", { class: "note" }, note));
}

function drawFigures(s) {
  const sum = (list, f) => (list || []).reduce((n, x) => n + f(x), 0);
  const rate = sum(s.topics, (t) => t.rate), lag = sum(s.topics, (t) => t.lag), dead = sum(s.topics, (t) => t.dead);
  const disk = Object.values(s.bytes || {}).reduce((a, b) => a + b, 0);
  const f = s.freshness;
  $("figures").replaceChildren(
    figure("Step served", count(s.step), s.frozen ? "frozen" : s.manifest ? `published tables: step ${count(s.batch_step)}` : "nothing published yet"),
    figure("Freshness p99", f.count ? seconds(f.p99) : "–", f.count ? `p50 ${seconds(f.p50)}, produced to served` : "nothing arrived lately"),
    figure("Drift rows", count(s.drift_rows), s.manifest ? "stream against the last full recompute" : "not compared yet", s.drift_rows > 0 ? "bad" : s.manifest ? "good" : ""),
    figure("Records", count(sum(s.topics, (t) => t.records)), `${count(rate)} per second, lag ${count(lag)}`),
    figure("Dead letters", count(dead), dead ? "lockstep dlq list" : "none open", dead ? "bad" : ""),
    figure("Manifest", s.manifest ? count(s.manifest) : "–", s.batch_now ? s.batch_now : isSet(s.published) ? `published ${ago(s.published)}` : "no batch yet"),
    figure("Memory", bytes(s.memory_bytes), `${bytes(disk)} on disk`),
  );
}

function drawState(s) {
  const stopped = (s.topics || []).filter((t) => t.stopped);
  const [kind, text] = !s.ready ? ["warn", "not ready"] : s.frozen ? ["warn", "frozen"]
    : s.drift_rows > 0 || stopped.length ? ["bad", "needs attention"] : ["good", "in step"];
  $("state").className = `badge ${kind}`;
  $("state").textContent = text;
  $("project").textContent = s.project;
  const notes = [
    ...(s.problems || []).map((p) => ["", p]),
    ...stopped.map((t) => ["", `Topic ${t.topic} is not read: ${t.stopped}`]),
    ...(s.not_ready || []).map((p) => ["warn", `Not ready: ${p}`]),
    ...(s.frozen ? [["warn", `Queries see an earlier moment: ${s.frozen}`]] : []),
    ...(s.last_batch && s.last_batch.error ? [["", `The last batch failed: ${s.last_batch.error}`]] : []),
  ];
  $("problems").hidden = notes.length === 0;
  $("problems").replaceChildren(...notes.map(([kind, text]) => element("p", { class: `problem ${kind}` }, text)));
}

function drawReplay(r) {
  $("replay").hidden = !r || r.phase === "done";
  if (!r) return;
  const share = r.total ? r.sent / r.total : 0;
  $("replay-bar").style.width = `${(100 * share).toFixed(1)}%`;
  $("replay-text").textContent = r.total
    ? `Replay: ${count(r.sent)} of ${count(r.total)} events (${(100 * share).toFixed(0)} %), ${count(r.rate)} per second`
    : `Replay: ${r.phase}`;
}

// A view has no rows of its own: it is evaluated when asked.
function stored(m, text) { return m.materialized === "view" ? "–" : text; }
function took(s) { return s ? seconds(s) : "–"; }

function drawTables(s) {
  $("models").replaceChildren(table([
    ["Model", (m) => m.model], ["Kept", (m) => m.materialized],
    ["Rows served", (m) => stored(m, count(m.rows)), "number"], ["from the stream", (m) => stored(m, count(m.overlay_rows)), "number"],
    ["Last step", (m) => stored(m, took(m.step_seconds)), "number"], ["Last batch", (m) => stored(m, took(m.batch_seconds)), "number"],
    ["Files", (m) => stored(m, count(m.files)), "number"], ["Drift", (m) => stored(m, alarm(m.drift_rows)), "number"],
  ], s.models || []));
  $("topics").replaceChildren(table([
    ["Topic", (t) => t.topic], ["Records", (t) => count(t.records), "number"], ["per second", (t) => count(t.rate), "number"],
    ["Lag", (t) => count(t.lag), "number"], ["Dead letters", (t) => alarm(t.dead), "number"],
    ["Bronze rows", (t) => count(t.bronze_rows), "number"], ["Files", (t) => count(t.bronze_files), "number"],
  ], s.topics || []));
  $("addresses").replaceChildren(table([["What", (a) => a.Name], ["Address", (a) => a.Addr]],
    [...(s.addresses || []), { Name: "state folder", Addr: s.state }]));
}

function drawHistory(manifests) {
  if (!manifests || manifests.length === 0) {
    $("history").replaceChildren(element("p", { class: "hint" }, "No batch was published yet."));
    return;
  }
  $("history").replaceChildren(table([
    ["Manifest", (m) => m.id, "number"], ["Step", (m) => count(m.step), "number"],
    ["Published", (m) => `${m.published.slice(0, 19).replace("T", " ")} UTC`], ["Age", (m) => ago(m.published)],
    ["Tables", (m) => count(Object.keys(m.tables || {}).length), "number"],
  ], manifests.slice(0, 10)));
}

// ---- the graph: columns by depth, topics and their bronze tables first ----

const NODE = { width: 186, height: 26, gap: 8, column: 226 };
let chosen = null;
let shown = null; // the graph's nodes by name

function kindOf(n) {
  if (n.kind !== "model") return n.kind;
  const layer = n.name.split(".")[0];
  return ["silver", "gold"].includes(layer) ? layer : "other";
}

function layout(nodes) {
  const by = new Map(nodes.map((n) => [n.name, n]));
  for (const n of nodes) {
    // Models stand right of what they read; gold stands right of all silver.
    n.depth = n.kind === "topic" ? 0 : 1;
    for (const r of n.reads) n.depth = Math.max(n.depth, (by.get(r)?.depth ?? 0) + 1);
  }
  const columns = [];
  for (const n of nodes) (columns[n.depth] ??= []).push(n);
  const tallest = Math.max(...columns.filter(Boolean).map((c) => c.length));
  columns.forEach((column, d) => {
    // Order by the mean place of what is read: fewer crossings.
    const place = (n) => n.reads.length ? n.reads.reduce((y, r) => y + (by.get(r)?.y ?? 0), 0) / n.reads.length : 0;
    if (d > 0) column.sort((a, b) => place(a) - place(b));
    const top = ((tallest - column.length) * (NODE.height + NODE.gap)) / 2;
    column.forEach((n, i) => { n.x = d * NODE.column + 1; n.y = 1 + top + i * (NODE.height + NODE.gap); });
  });
  return { by, width: (columns.length - 1) * NODE.column + NODE.width + 2, height: tallest * (NODE.height + NODE.gap) + 2 };
}

function svg(tag, attributes, ...children) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  e.append(...children);
  return e;
}

function shorten(text, max) { return text.length > max ? `${text.slice(0, max - 1)}…` : text; }

function drawGraph(lineage) {
  if (!lineage || !lineage.nodes || lineage.nodes.length === 0) return;
  const { by, width, height } = layout(lineage.nodes);
  shown = by;
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Topics, tables and models" });
  for (const n of lineage.nodes) {
    for (const r of n.reads) {
      const from = by.get(r);
      if (!from) continue;
      const x1 = from.x + NODE.width, y1 = from.y + NODE.height / 2, x2 = n.x, y2 = n.y + NODE.height / 2, bend = Math.max(24, (x2 - x1) / 2);
      root.append(svg("path", { class: "edge", d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`, "data-from": r, "data-to": n.name }));
    }
  }
  for (const n of lineage.nodes) root.append(nodeOf(n));
  $("graph").replaceChildren(root);
  fitGraph();
}

// fitGraph shrinks the graph to the page as long as it stays readable; else it
// scrolls.
function fitGraph() {
  const root = $("graph").querySelector("svg");
  if (!root) return;
  const natural = root.viewBox.baseVal, room = $("graph").clientWidth;
  const scale = room < natural.width && room >= 0.7 * natural.width ? room / natural.width : 1;
  root.setAttribute("width", natural.width * scale);
  root.setAttribute("height", natural.height * scale);
}

function nodeOf(n) {
  const label = n.kind === "topic" ? n.name.replace(/^topic /, "") : n.name;
  const g = svg("g", { class: `node ${kindOf(n)} ${n.materialized || ""}`, tabindex: "0", role: "button", "data-name": n.name, "aria-label": `${n.kind} ${label}` },
    svg("title", {}, document.createTextNode(`${n.name}${n.materialized ? ` (${n.materialized})` : ""}${n.description ? `\n${n.description}` : ""}`)),
    svg("rect", { x: n.x, y: n.y, width: NODE.width, height: NODE.height, rx: n.kind === "topic" ? 13 : 5 }),
    svg("text", { x: n.x + 9, y: n.y + 17 }, document.createTextNode(shorten(label, 20))),
    svg("text", { class: "count", x: n.x + NODE.width - 7, y: n.y + 17, "text-anchor": "end" }));
  g.addEventListener("click", () => choose(n));
  g.addEventListener("keydown", (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); choose(n); } });
  return g;
}

// related gives all that leads to a node and all that it leads to.
function related(n) {
  const on = new Set([n.name]);
  const up = (x) => x.reads.forEach((r) => { if (shown.has(r) && !on.has(r)) { on.add(r); up(shown.get(r)); } });
  up(n);
  const down = (name) => shown.forEach((x) => { if (x.reads.includes(name) && !on.has(x.name)) { on.add(x.name); down(x.name); } });
  down(n.name);
  return on;
}

function choose(n) {
  chosen = chosen === n.name ? null : n.name;
  const on = chosen ? related(n) : new Set();
  const root = $("graph").querySelector("svg");
  root.classList.toggle("chosen", !!chosen);
  for (const g of root.querySelectorAll(".node")) g.classList.toggle("on", on.has(g.dataset.name));
  for (const e of root.querySelectorAll(".edge")) e.classList.toggle("on", on.has(e.dataset.from) && on.has(e.dataset.to));
  if (chosen && n.kind !== "topic") $("sql").value = `SELECT * FROM ${n.name} LIMIT 20`;
}

function compact(n) {
  if (n < 1000) return count(n);
  if (n < 10000) return `${(n / 1000).toFixed(1)}k`;
  return n < 1e6 ? `${Math.round(n / 1000)}k` : `${(n / 1e6).toFixed(1)}M`;
}

// suggest puts a first statement into the empty query box.
function suggest(lineage) {
  const last = (lineage.nodes || []).filter((n) => n.kind === "model" && n.materialized === "incremental").pop();
  if (last && !$("sql").value) $("sql").value = `SELECT * FROM ${last.name} LIMIT 20`;
}

function drawCounts(s) {
  const counts = new Map();
  for (const t of s.topics || []) { counts.set(`topic ${t.topic}`, t.records); counts.set(`bronze.${t.topic}`, t.bronze_rows); }
  for (const m of s.models || []) if (m.materialized !== "view") counts.set(m.model, m.rows);
  for (const g of $("graph").querySelectorAll(".node")) {
    const n = counts.get(g.dataset.name);
    g.querySelector(".count").textContent = n === undefined ? "" : compact(n);
    // A long name makes room for its figure.
    const name = g.dataset.name.replace(/^topic /, "");
    g.querySelector("text:not(.count)").textContent = shorten(name, n === undefined ? 27 : 20);
  }
}

// ---- queries ----

async function runQuery(event) {
  event.preventDefault();
  const note = $("query-note");
  note.textContent = "running";
  const started = performance.now();
  try {
    const answer = await api("/api/query", { sql: $("sql").value, layer: $("layer").value });
    const took = seconds((performance.now() - started) / 1000);
    const some = answer.truncated ? "first " : "";
    note.textContent = `${some}${count(answer.rows.length)} rows, step ${count(answer.step)}, ${took}${answer.frozen ? `, frozen: ${answer.frozen}` : ""}`;
    const numeric = (type) => /^(int|bigint|double|decimal)/.test(type);
    $("rows").replaceChildren(table(answer.columns.map((c, i) => [c.name, (row) => value(row[i]), numeric(c.type) ? "number" : ""]), answer.rows.slice(0, 200)));
    if (answer.rows.length > 200) $("rows").append(element("p", { class: "hint" }, "The first 200 rows are shown."));
  } catch (e) {
    note.textContent = "";
    $("rows").replaceChildren(element("p", { class: "error" }, e.message));
  }
}

function value(v) {
  if (v === null) return { text: "null", class: "null" };
  return typeof v === "object" ? JSON.stringify(v) : String(v);
}

// ---- refresh ----

async function api(path, body) {
  const options = body ? { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) } : {};
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.do ? `${answer.error}\n${answer.do}` : answer.error);
  return answer;
}

let paused = false;
let lastManifest = -1;
let lineageDrawn = false;

async function refresh() {
  try {
    const s = await api("/api/status");
    drawState(s);
    drawFigures(s);
    drawReplay(s.replay);
    drawTables(s);
    if (!lineageDrawn) {
      const lineage = await api("/api/graph");
      drawGraph(lineage);
      suggest(lineage);
      lineageDrawn = true;
    }
    drawCounts(s);
    if (s.manifest !== lastManifest || s.manifest === 0) { drawHistory(await api("/api/history")); lastManifest = s.manifest; }
  } catch (e) {
    $("state").className = "badge bad";
    $("state").textContent = e instanceof TypeError ? "no answer: has the instance ended?" : shorten(e.message, 80);
  }
}

async function loop() {
  if (!paused && !document.hidden) await refresh();
  setTimeout(loop, REFRESH_MS);
}

addEventListener("resize", fitGraph);
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").textContent = paused ? "Resume" : "Pause";
  $("pause").setAttribute("aria-pressed", paused);
});
$("query").addEventListener("submit", runQuery);
loop();
