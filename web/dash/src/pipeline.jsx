// The pipeline as a picture, live, and all about the table that is chosen.

import { useEffect, useMemo, useState } from "preact/hooks";
import { ask } from "./api.js";
import { count, text } from "./format.js";

const PACE = 1000;

// usePoll asks again and again, not while paused or hidden.
function usePoll(path, body, paused, pace) {
  const [state, update] = useState({});
  const key = path + JSON.stringify(body);
  useEffect(() => {
    let stopped = false, timer;
    const abort = new AbortController();
    const load = async () => {
      if (!document.hidden) {
        try {
          const data = await ask(path, body, abort.signal);
          if (!stopped) update({ data });
        } catch (e) {
          if (!stopped && e.name !== "AbortError") update((s) => ({ ...s, error: e }));
        }
      }
      if (!stopped && !paused && pace) timer = setTimeout(load, pace);
    };
    load();
    return () => { stopped = true; abort.abort(); clearTimeout(timer); };
  }, [key, paused]);
  return state;
}

export function Pipeline({ live }) {
  const graph = usePoll("/api/graph", undefined, true, 0);
  const status = usePoll("/api/status", undefined, live.paused, PACE);
  const rights = usePoll("/api/rights", undefined, true, 0);
  const [chosen, choose] = useState(() => new URLSearchParams(location.search).get("table") || "");
  const pick = (name) => {
    const next = name === chosen ? "" : name;
    choose(next);
    history.replaceState(history.state, "", next ? `?table=${encodeURIComponent(next)}` : location.pathname);
  };
  const s = status.data;
  return (
    <>
      <h1>Pipeline</h1>
      <p class="lead">From topics (left) over bronze tables to models. Choose one to see all about it.</p>
      {(status.error || graph.error) && <p class="banner bad" role="alert">{(status.error || graph.error).message}</p>}
      {s && <Figures s={s} />}
      {s?.problems?.map((p) => <p key={p} class="banner bad" role="alert">{p}</p>)}
      {graph.data?.nodes && <section class="panel" aria-label="Graph"><Graph nodes={graph.data.nodes} status={s} chosen={chosen} pick={pick} /></section>}
      {chosen && graph.data && <Node key={chosen} name={chosen} node={graph.data.nodes.find((n) => n.name === chosen)} status={s} step={live.step} write={rights.data?.write} />}
      <History status={s} write={rights.data?.write} />
    </>
  );
}

function Figures({ s }) {
  const sum = (f) => (s.topics || []).reduce((n, t) => n + f(t), 0);
  const seconds = (v) => (v < 1 ? `${Math.round(v * 1000)} ms` : `${text(v, { format: "days" })} s`);
  const all = [
    ["Step", count(s.step), s.frozen || `published tables: step ${count(s.batch_step)}`, s.frozen ? "warn" : ""],
    ["Rate", `${count(sum((t) => t.rate))}/s`, `${count(sum((t) => t.records))} records in all`],
    ["Lag", count(sum((t) => t.lag)), "records in no step yet"],
    ["Freshness p99", s.freshness.count ? seconds(s.freshness.p99) : "–", s.freshness.count ? `p50 ${seconds(s.freshness.p50)}` : "nothing arrived lately"],
    ["Drift", count(s.drift_rows), s.manifest ? "rows, at the last batch" : "not compared yet", s.drift_rows > 0 ? "bad" : s.manifest ? "good" : ""],
    ["Dead letters", count(sum((t) => t.dead)), "open", sum((t) => t.dead) > 0 ? "bad" : ""],
  ];
  return <dl class="figures">{all.map(([name, value, note, kind]) => <div key={name} class={kind || ""}><dt>{name}</dt><dd><strong>{value}</strong><span>{note}</span></dd></div>)}</dl>;
}

const W = 178, H = 46, GAP_X = 34, GAP_Y = 12, LETTERS = 21;

// layout puts each node behind what it reads, and near to it.
function layout(nodes) {
  const by = new Map(nodes.map((n) => [n.name, n]));
  const depth = new Map();
  const deep = (n) => {
    if (!depth.has(n.name)) depth.set(n.name, 1 + Math.max(-1, ...n.reads.filter((r) => by.has(r)).map((r) => deep(by.get(r)))));
    return depth.get(n.name);
  };
  const columns = [];
  for (const n of nodes) (columns[deep(n)] ??= []).push(n);
  const place = new Map();
  columns.forEach((column, x) => {
    const weight = (n) => {
      const ys = n.reads.filter((r) => place.has(r)).map((r) => place.get(r).y);
      return ys.length ? ys.reduce((a, b) => a + b, 0) / ys.length : Infinity;
    };
    if (x) column.sort((a, b) => weight(a) - weight(b));
    column.forEach((n, y) => place.set(n.name, { x: x * (W + GAP_X), y: y * (H + GAP_Y) }));
  });
  const rows = Math.max(...columns.map((c) => c.length));
  for (const column of columns) {
    const shift = ((rows - column.length) * (H + GAP_Y)) / 2;
    for (const n of column) place.get(n.name).y += shift;
  }
  return { by, place, width: columns.length * (W + GAP_X) - GAP_X, height: rows * (H + GAP_Y) - GAP_Y };
}

function Graph({ nodes, status, chosen, pick }) {
  const l = useMemo(() => layout(nodes), [nodes]);
  const on = useMemo(() => related(l.by, chosen), [l, chosen]);
  const notes = figuresOf(status);
  const layers = [...new Set(nodes.map(layerOf))];
  return (
    <>
    <ul class="legend">{layers.map((k) => <li key={k}><i class={k} />{k}</li>)}<li><i class="view" />view, evaluated when asked</li></ul>
    <div class="scroll graph" tabIndex={0} role="region" aria-label="Graph of topics, tables and models">
      <svg viewBox={`0 0 ${l.width + 4} ${l.height + 4}`} style={{ width: "100%", minWidth: `${Math.round(l.width * .81)}px`, maxWidth: `${l.width + 4}px` }} class={chosen ? "chosen" : ""}>
        <g transform="translate(2,2)">
          {nodes.flatMap((n) => n.reads.filter((r) => l.by.has(r)).map((r) => {
            const a = l.place.get(r), b = l.place.get(n.name);
            const x1 = a.x + W, y1 = a.y + H / 2, y2 = b.y + H / 2, bend = Math.max(30, (b.x - x1) / 2);
            return <path key={`${r} ${n.name}`} class={`edge ${on.has(r) && on.has(n.name) ? "on" : ""}`} d={`M${x1} ${y1}C${x1 + bend} ${y1} ${b.x - bend} ${y2} ${b.x} ${y2}`} />;
          }))}
          {nodes.map((n) => {
            const at = l.place.get(n.name), note = notes.get(n.name) || { text: "" };
            const label = n.name.replace(/^topic /, "").replace(/^.*\./, "");
            return (
              <g key={n.name} class={`node ${layerOf(n)} ${n.materialized || ""} ${note.bad ? "alarm" : ""} ${on.has(n.name) ? "on" : ""}`} role="button" tabIndex={0} aria-pressed={n.name === chosen}
                data-name={n.name} transform={`translate(${at.x},${at.y})`} onClick={() => pick(n.name)} onKeyDown={(e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); pick(n.name); } }}>
                <title>{n.name}{n.description ? `\n${n.description}` : ""}{"\n"}{note.text}</title>
                <rect width={W} height={H} rx={n.kind === "topic" ? 22 : 8} />
                <text x={11} y={19}>{label.length > LETTERS ? `${label.slice(0, LETTERS - 1)}…` : label}</text>
                <text x={11} y={36} class="figure">{note.text.length > 28 ? `${note.text.slice(0, 27)}…` : note.text}</text>
              </g>
            );
          })}
        </g>
      </svg>
    </div>
    </>
  );
}

function layerOf(n) { return n.kind === "model" ? n.name.split(".")[0] : n.kind; }

function related(by, name) {
  const on = new Set();
  if (!by.has(name)) return on;
  const up = (n) => { if (!by.has(n) || on.has(n)) return; on.add(n); by.get(n).reads.forEach(up); };
  up(name);
  const down = (n) => by.forEach((m) => { if (m.reads.includes(n) && !on.has(m.name)) { on.add(m.name); down(m.name); } });
  down(name);
  return on;
}

// figuresOf gives the live line of each node.
function figuresOf(s) {
  const out = new Map();
  for (const t of s?.topics || []) {
    const parts = [`${count(t.rate)}/s`, `lag ${count(t.lag)}`];
    if (t.dead) parts.push(`${count(t.dead)} dead`);
    out.set(`topic ${t.topic}`, { text: t.stopped ? "stopped" : parts.join(" · "), bad: t.stopped || t.dead > 0 });
    out.set(`bronze.${t.topic}`, { text: `${count(t.bronze_rows)} rows · ${count(t.bronze_files)} files` });
  }
  for (const m of s?.models || []) {
    const parts = m.materialized === "view" ? ["view"] : [`${count(m.rows)} rows`];
    if (m.overlay_rows) parts.push(`${count(m.overlay_rows)} new`);
    if (m.step_seconds) parts.push(`${Math.round(m.step_seconds * 1000)} ms`);
    if (m.drift_rows) parts.push(`drift ${count(m.drift_rows)}`);
    out.set(m.model, { text: parts.join(" · "), bad: m.drift_rows > 0 });
  }
  return out;
}

function Node({ name, node, status, step, write }) {
  const topic = name.startsWith("topic ") ? name.slice(6) : "";
  const info = usePoll(`/api/tables/${encodeURIComponent(topic || name)}`, undefined, true, 0);
  const t = info.data;
  const state = (status?.topics || []).find((x) => x.topic === (topic || name.replace(/^bronze\./, "")));
  return (
    <section class="panel" aria-label={`About ${name}`}>
      <header><div class="titles"><h2>{name}</h2>{t && <p class="text">{t.description || node?.description} <code>{t.file}</code>{node?.materialized ? ` · ${node.materialized}` : ""}</p>}</div></header>
      {info.error && <p class="failed" role="alert">{info.error.message} {info.error.remedy}</p>}
      {state?.stopped && <p class="failed" role="alert">{state.stopped}</p>}
      {t && (
        <details open><summary>Columns ({t.columns.length})</summary>
          <div class="scroll" tabIndex={0} role="region" aria-label={`Columns of ${name}`}><table><thead><tr><th>Column</th><th>Type</th><th>Meaning</th><th>Tests</th></tr></thead>
            <tbody>{t.columns.map((c) => <tr key={c.name}><td><code>{c.name}</code></td><td>{c.type}</td><td class="wrap">{c.description}</td><td>{c.tests.join(", ")}</td></tr>)}</tbody></table></div>
        </details>
      )}
      {t?.explain && <details><summary>How changes travel</summary><pre tabIndex={0}>{t.explain}</pre></details>}
      {t?.sql && <details><summary>SQL</summary><pre tabIndex={0}>{t.sql}</pre></details>}
      {t?.schema && <details><summary>Schema</summary><pre tabIndex={0}>{t.schema}</pre></details>}
      {t && <Sample table={t.name} step={step} />}
      {state && <Letters topic={state.topic} open={state.dead} write={write} />}
    </section>
  );
}

function Sample({ table, step }) {
  const [open, setOpen] = useState(false), [asOf, setAsOf] = useState("");
  const manifests = usePoll("/api/history", undefined, true, 0);
  return (
    <details onToggle={(e) => setOpen(e.target.open)}><summary>Rows</summary>
      <label>As of <select value={asOf} onChange={(e) => setAsOf(e.target.value)}><option value="">now</option>{(manifests.data || []).map((m) => <option key={m.id} value={String(m.id)}>manifest {m.id}, step {m.step}</option>)}</select></label>
      {open && <Rows table={table} asOf={asOf} step={step} />}
    </details>
  );
}

function Rows({ table, asOf, step }) {
  const { data, error } = usePoll("/api/query", { sql: `SELECT * FROM ${table} LIMIT 20`, as_of: asOf }, true, 0);
  if (error) return <p class="failed" role="alert">{error.message}</p>;
  if (!data) return <p class="note" role="status">Loading…</p>;
  return (
    <>
      <p class="note">20 rows at most, at step {count(data.step)}{step !== data.step && !asOf ? " (open again for newer ones)" : ""}.</p>
      <div class="scroll" tabIndex={0} role="region" aria-label={`Rows of ${table}`}><table><thead><tr>{data.columns.map((c) => <th key={c.name}>{c.name}</th>)}</tr></thead>
        <tbody>{data.rows.map((r, i) => <tr key={i}>{r.map((v, j) => <td key={j} class={v === null ? "null" : ""}>{v === null ? "null" : String(v).slice(0, 120)}</td>)}</tr>)}</tbody></table></div>
    </>
  );
}

function Letters({ topic, open, write }) {
  const [shown, setShown] = useState(false), [said, say] = useState("");
  const replay = async (letter) => {
    const which = letter ? { topic, partition: letter.partition, offset: letter.offset } : { topic };
    if (!confirm(letter ? `Send the record at offset ${letter.offset} to ${topic} again?` : `Send all open dead letters of ${topic} again?`)) return;
    try { say(`${(await ask("/api/letters/replay", which)).replayed} sent again`); } catch (e) { say(e.message); }
  };
  return (
    <details onToggle={(e) => setShown(e.target.open)}><summary>Dead letters ({count(open)} open)</summary>
      {shown && <LetterList topic={topic} said={said} write={write} replay={replay} />}
    </details>
  );
}

function LetterList({ topic, said, write, replay }) {
  const { data, error } = usePoll("/api/letters", { topic, limit: 50 }, false, 3000);
  if (error) return <p class="failed" role="alert">{error.message}</p>;
  if (!data) return <p class="note" role="status">{data === null ? "None." : "Loading…"}</p>;
  return (
    <>
      {said && <p class="note" role="status">{said}</p>}
      {data.length === 0 ? <p class="note">None.</p> : (
        <div class="scroll" tabIndex={0} role="region" aria-label={`Dead letters of ${topic}`}><table><thead><tr><th>Partition, offset</th><th>Reason</th><th>Detail</th><th>Time</th><th>{write ? <button type="button" class="small" onClick={() => replay(null)}>Replay all</button> : ""}</th></tr></thead>
          <tbody>{data.map((d) => <tr key={`${d.partition} ${d.offset}`}><td class="number">{d.partition}, {d.offset}</td><td>{d.reason}</td><td class="wrap">{d.detail}</td><td>{text(d.time, { format: "datetime" })}</td><td>{write && !d.done && <button type="button" class="small" onClick={() => replay(d)}>Replay</button>}</td></tr>)}</tbody></table></div>
      )}
      {!write && data.length > 0 && <p class="note">`lockstep dlq replay` sends them again. The page does so where a password is set.</p>}
    </>
  );
}

function History({ status, write }) {
  const [said, say] = useState("");
  const { data } = usePoll("/api/history", undefined, false, 5000);
  const act = async (question, path, body) => {
    if (!confirm(question)) return;
    try { await ask(path, body); say("Done."); } catch (e) { say(e.message); }
  };
  return (
    <section class="panel" aria-label="History">
      <header><div class="titles"><h2>History</h2><p class="text">Published manifests, newest first. A rollback serves an earlier one, frozen, until it is released.</p></div>
        {write && status?.frozen && <button type="button" class="small strong" onClick={() => act("Serve the newest again?", "/api/release", {})}>Release</button>}</header>
      {said && <p class="note" role="status">{said}</p>}
      {status?.last_batch?.error && <p class="failed" role="alert">The last batch failed: {status.last_batch.error}</p>}
      {!data?.length ? <p class="note">No batch has published yet.</p> : (
        <div class="scroll" tabIndex={0} role="region" aria-label="Manifests"><table><thead><tr><th>Manifest</th><th>Step</th><th>Published</th><th /></tr></thead>
          <tbody>{data.slice(0, 20).map((m) => <tr key={m.id}><td>{m.id}{m.id === status?.manifest ? " (served)" : ""}</td><td>{count(m.step)}</td><td>{text(m.published, { format: "datetime" })}</td>
            <td>{write ? m.id !== status?.manifest && <button type="button" class="small" onClick={() => act(`Serve manifest ${m.id} (step ${m.step}), frozen until released?`, "/api/rollback", { manifest: m.id })}>Roll back</button> : ""}</td></tr>)}</tbody></table></div>
      )}
      {!write && data?.length > 0 && <p class="note">`lockstep rollback --to MANIFEST` serves an earlier one. The page does so where a password is set.</p>}
    </section>
  );
}
