import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { ask, useRows } from "./api.js";
import { Chart, usePalette } from "./chart.jsx";
import { Cloud } from "./cloud.jsx";
import { chartPNG, cloudPNG, saveCSV, tablePNG } from "./export.js";
import { count, text } from "./format.js";
import { change, filterOf, isSet, panelState, pick, set, setPanel } from "./state.js";
import { Table } from "./table.jsx";

const DETAIL = "detail";

// shape is the panel at the level that is shown: its columns, its chart, and
// what is one level up and down.
function shape(panel, by) {
  const path = panel.drill || [], ways = panel.switch || [];
  if (by === DETAIL && panel.detail) {
    return { ...panel, chart: "table", columns: panel.detail.columns, filters: panel.detail.filters, search: panel.detail.search, summary: false, level: path.length, click: [], by };
  }
  const first = (path[0] || ways[0])?.name;
  const now = [...path, ...ways].find((c) => c.name === by) || path[0] || ways[0];
  if (!now || now.name === first) return { ...panel, level: 0, by: first };
  const swap = (name) => (name === first ? now.name : name);
  const click = panel.click.map(swap).filter((name) => name !== now.name || now.filter);
  return {
    ...panel, by: now.name, level: Math.max(0, path.findIndex((c) => c.name === now.name)),
    columns: panel.columns.filter((c) => c.name !== now.name).map((c) => (c.name === first ? now : c)), click,
    encode: panel.encode && Object.fromEntries(Object.entries(panel.encode).map(([role, name]) => [role, swap(name)])),
  };
}

// Panel is a chart or a table with all around it.
export function Panel({ dashboard, panel, height, chosen, live, phone }) {
  const box = useRef(null), handle = useRef(null);
  const mine = panelState(chosen, panel.name);
  const seen = useSeen(box);
  const p = useMemo(() => shape(panel, mine.by), [panel, mine.by]);
  const columns = useMemo(() => Object.fromEntries(p.columns.map((c) => [c.name, c])), [p]);
  const filters = dashboard.filters;
  const isTable = p.chart === "table";
  const asked = isTable || mine.view !== "data";
  const request = {
    dashboard: dashboard.name, panel: panel.name, by: mine.by || "", search: (isTable && mine.q) || "", sort: (isTable && mine.sort) || "", offset: isTable ? Number(mine.page || 0) : 0,
    filters: requestFilters(filters, chosen, panel.name, p),
  };
  const feed = useRows(request, live.step, live.lost, seen);
  const rows = useMemo(() => asRows(feed.data), [feed.data]);
  const colors = usePalette();
  const applied = named(filters, chosen, p.filters, dashboard.currency);
  const ignored = filters.filter((f) => isSet(filterOf(chosen, f)) && !p.filters.includes(f.name) && chosen.filters[f.name]);
  const own = (name) => filters.find((f) => f.column === name);
  const marks = p.click.map((name) => [name, own(name)]).filter(([, f]) => f && chosen.origin[f.name] === panel.name);
  const selected = (row) => marks.every(([name, f]) => holds(filterOf(chosen, f), row[name]));
  selected.key = JSON.stringify(marks.map(([, f]) => filterOf(chosen, f)));
  const next = (panel.drill || [])[p.level + 1]?.name || (panel.drill && panel.detail && p.by !== DETAIL ? DETAIL : "");

  const choose = p.click.length === 0 ? null : (row, more) => change((s) => {
    for (const name of p.click) if (name in row && own(name)) pick(s, own(name), row[name], panel.name, more);
  });
  // Going down keeps what was chosen as a filter of all panels, this one too.
  const down = (row) => change((s) => {
    const f = own(p.by);
    if (row && f) set(s, f, f.kind === "range" ? { values: [], from: row[p.by], to: row[p.by] } : { values: [row[p.by]], from: "", to: "" });
    for (const [, g] of marks) delete s.origin[g.name];
    setPanel(s, panel.name, { by: next, page: "", sort: "", q: "" });
  });
  const up = (level) => change((s) => {
    for (const c of (panel.drill || []).slice(level)) if (own(c.name)) set(s, own(c.name), { values: own(c.name).default || [], from: "", to: "" });
    setPanel(s, panel.name, { by: level === 0 ? "" : panel.drill[level].name, page: "", sort: "", q: "" });
  });
  const tune = (parts, quiet) => change((s) => setPanel(s, panel.name, parts), quiet);

  const csv = async () => {
    const all = isTable ? asRows(await ask("/api/dashboards/rows", { ...request, all: true, offset: 0 })) : rows;
    saveCSV(panel.title, p.columns, all, applied);
  };
  const png = () => {
    if (isTable || !asked) tablePNG(panel.title, applied, colors, p.columns, asked ? rows : rows.slice(0, 50), dashboard.currency);
    else if (p.chart === "wordcloud") cloudPNG(panel.title, applied, handle.current);
    else chartPNG(panel.title, applied, colors, handle.current);
  };
  const empty = feed.data && rows.length === 0;
  const tall = isTable ? undefined : phone ? Math.min(height, 380) : height;
  return (
    <section class={`panel w${panel.width}`} ref={box} id={`panel-${panel.name}`} aria-labelledby={`title-${panel.name}`} aria-busy={!!feed.busy} data-fresh={String(feed.fresh)} data-step={feed.data?.step}>
      <header>
        <div class="titles">
          <h2 id={`title-${panel.name}`}>{panel.title}</h2>
          {panel.text && <p class="text">{panel.text}</p>}
        </div>
        <div class="tools" role="group" aria-label={`Tools of ${panel.title}`}>
          {!isTable && <button type="button" class="small" aria-pressed={!asked} onClick={() => tune({ view: asked ? "data" : "" }, true)}>Data</button>}
          <button type="button" class="small" disabled={!rows.length} onClick={csv}>CSV</button>
          <button type="button" class="small" disabled={!rows.length} onClick={png}>PNG</button>
        </div>
      </header>
      {(panel.switch || panel.drill || (isTable && p.search)) && (
        <div class="controls">
          {panel.switch && (
            <label class="by">by <select value={p.by} onChange={(e) => tune({ by: e.target.value === panel.switch[0].name ? "" : e.target.value })}>{panel.switch.map((c) => <option key={c.name} value={c.name}>{c.label}</option>)}</select></label>
          )}
          {panel.drill && <Path panel={panel} p={p} filters={filters} chosen={chosen} currency={dashboard.currency} up={up} />}
          {next && marks.length > 0 && !isTable && <button type="button" class="small strong" onClick={() => down(null)}>Go down to {next === DETAIL ? panel.detail.title : panel.drill[p.level + 1].label} ▾</button>}
          {isTable && p.search && <Search value={mine.q || ""} title={panel.title} onInput={(q) => tune({ q, page: "" }, true)} />}
        </div>
      )}
      {ignored.length > 0 && <p class="note">Not narrowed by {ignored.map((f) => f.label).join(", ")}: these rows do not know {ignored.length > 1 ? "them" : "it"}.</p>}
      <div class={`body${feed.busy && feed.data ? " busy" : ""}`} style={tall ? { height: `${tall}px` } : { minHeight: "200px" }}>
        {feed.error && <Failed error={feed.error} stale={!!feed.data} again={feed.again} />}
        {!feed.data && !feed.error && <p class="state" role="status">Loading…</p>}
        {empty && <p class="state" role="status">{applied.length ? "No rows for these filters." : live.step ? "No rows yet." : "No rows yet. They appear as soon as the stream brings them."}</p>}
        {!empty && feed.data && asked && !isTable && (p.chart === "wordcloud"
          ? <Cloud panel={p} columns={columns} rows={rows} currency={dashboard.currency} height={tall} handle={handle} />
          : <Chart dashboard={dashboard.name} panel={p} columns={columns} rows={rows} currency={dashboard.currency} selected={selected} onPick={choose || (() => {})} by={p.by} handle={handle} />)}
        {!empty && feed.data && isTable && (
          <Table caption={panel.title} columns={p.columns} rows={rows} most={extra(rows, "_max_")} summary={p.summary && extra(rows, "_sum_")} currency={dashboard.currency} colors={colors}
            sort={mine.sort || initialSort(p)} onSort={(sort) => tune({ sort, page: "" })} total={rows[0]?._rows || 0} offset={request.offset} page={p.page} onPage={(n) => tune({ page: n ? String(n) : "" }, true)}
            onPick={choose} pickColumn={p.click[0]} marked={marks.length > 0} selected={selected} onDrill={next ? down : null} />
        )}
        {!empty && feed.data && !isTable && !asked && <Data panel={p} title={panel.title} rows={rows} currency={dashboard.currency} colors={colors} onPick={choose} marked={marks.length > 0} selected={selected} sql={feed.data.sql} />}
      </div>
      {feed.data?.truncated && asked && p.chart !== "wordcloud" && <p class="note">Only the first {count(rows.length)} rows are drawn.</p>}
    </section>
  );
}

function initialSort(p) {
  const first = p.sort?.[0] || "";
  return p.columns.some((c) => c.name === first.split(" ")[0]) ? first : "";
}

function holds(f, value) {
  if (f.from || f.to) return (!f.from || value >= f.from) && (!f.to || value <= f.to);
  return f.values.length === 0 || f.values.map(String).includes(String(value));
}

function requestFilters(filters, chosen, panel, p) {
  const out = {};
  for (const f of filters) {
    const now = filterOf(chosen, f);
    const origin = chosen.origin[f.name] === panel && p.click.some((name) => name === f.column);
    if (!isSet(now) || origin || !p.filters.includes(f.name)) continue;
    out[f.name] = now.from || now.to ? { from: now.from, to: now.to } : { values: now.values.map((v) => (v === null ? null : String(v))) };
  }
  return out;
}

// named gives the filters that hold for a panel, as text.
export function named(filters, chosen, names, currency) {
  return filters.filter((f) => (!names || names.includes(f.name)) && isSet(filterOf(chosen, f))).map((f) => ({ filter: f, text: `${f.label}: ${words(f, filterOf(chosen, f), currency)}` }));
}

export function words(filter, f, currency) {
  const show = (v) => text(v, filter, currency);
  if (f.from || f.to) return f.from === f.to ? show(f.from) : `${f.from ? show(f.from) : "…"} – ${f.to ? show(f.to) : "…"}`;
  return f.values.length > 3 ? `${f.values.slice(0, 3).map(show).join(", ")} and ${f.values.length - 3} more` : f.values.map(show).join(", ");
}

// asRows makes objects of arrays.
export function asRows(data) {
  if (!data) return [];
  const names = data.columns.map((c) => c.name);
  return data.rows.map((r) => Object.fromEntries(names.map((n, i) => [n, r[i]])));
}

// extra collects what the first row says of all rows.
function extra(rows, prefix) {
  const out = {};
  for (const [k, v] of Object.entries(rows[0] || {})) if (k.startsWith(prefix)) out[k.slice(prefix.length)] = Number(v);
  return out;
}

function useSeen(ref) {
  const [seen, set] = useState(false);
  useEffect(() => {
    const watch = new IntersectionObserver(([e]) => set(e.isIntersecting), { rootMargin: "200px" });
    watch.observe(ref.current);
    return () => watch.disconnect();
  }, []);
  return seen;
}

function Path({ panel, p, filters, chosen, currency, up }) {
  const path = panel.drill;
  const label = (i) => {
    const f = filters.find((g) => g.column === path[i].name);
    const now = f && filterOf(chosen, f);
    return now && isSet(now) && i < p.level ? words(f, now, currency) : path[i].label;
  };
  const steps = [...path.slice(0, p.level).map((_, i) => i)];
  return (
    <nav class="path" aria-label={`Levels of ${panel.title}`}>
      {steps.map((i) => <span key={i}><button type="button" class="link" onClick={() => up(i)}>{label(i)}</button> › </span>)}
      <span aria-current="true">{p.by === DETAIL ? panel.detail.title : path[p.level].label}</span>
    </nav>
  );
}

function Search({ value, title, onInput }) {
  const timer = useRef(0);
  const [typed, setTyped] = useState(value);
  useEffect(() => setTyped(value), [value]);
  return (
    <input type="search" class="search" placeholder="Search" aria-label={`Search in ${title}`} value={typed} onInput={(e) => {
      const v = e.target.value;
      setTyped(v);
      clearTimeout(timer.current);
      timer.current = setTimeout(() => onInput(v), 250);
    }} />
  );
}

function Failed({ error, stale, again }) {
  return (
    <div class="failed" role="alert">
      <p><strong>{stale ? "These rows are old: " : ""}{error.message}</strong> {error.remedy}</p>
      <button type="button" class="small" onClick={again}>Try again</button>
    </div>
  );
}

const PAGE = 50;

// Data is the table behind a chart.
function Data({ panel, title, rows, currency, colors, onPick, marked, selected, sql }) {
  const [offset, setOffset] = useState(0), [sort, setSort] = useState("");
  const sorted = useMemo(() => {
    if (!sort) return rows;
    const [name, way] = sort.split(" ");
    const sign = way === "desc" ? -1 : 1;
    return [...rows].sort((a, b) => (a[name] === null) - (b[name] === null) || sign * (a[name] < b[name] ? -1 : a[name] > b[name] ? 1 : 0));
  }, [rows, sort]);
  return (
    <div class="data">
      <Table caption={`Data of ${title}`} columns={panel.columns} rows={sorted.slice(offset, offset + PAGE)} currency={currency} colors={colors} sort={sort} onSort={(s) => { setSort(s); setOffset(0); }}
        total={rows.length} offset={offset} page={PAGE} onPage={setOffset} onPick={onPick} pickColumn={panel.click[0]} marked={marked} selected={selected} />
      <details><summary>SQL</summary><pre tabIndex={0}>{sql}</pre></details>
    </div>
  );
}
