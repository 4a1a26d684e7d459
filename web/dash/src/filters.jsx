import { useEffect, useId, useRef, useState } from "preact/hooks";
import { ask } from "./api.js";
import { usePalette } from "./chart.jsx";
import { text } from "./format.js";
import { words } from "./panel.jsx";
import { change, depth, filterOf, isSet, set, undo } from "./state.js";

// Filters is the bar above the panels: a control for each filter, and a chip
// for each that holds.
export function Filters({ dashboard, chosen, step }) {
  const chips = dashboard.filters.filter((f) => chosen.filters[f.name] && f.kind !== "buttons" && isSet(filterOf(chosen, f)));
  const changed = Object.keys(chosen.filters).length > 0;
  return (
    <section class="filters" aria-label="Filters">
      <div class="controls">
        {dashboard.filters.filter((f) => f.kind !== "hidden").map((f) => {
          const Control = { range: Range, buttons: Buttons }[f.kind] || Values;
          return <Control key={dashboard.name + f.name} dashboard={dashboard} filter={f} now={filterOf(chosen, f)} step={step} />;
        })}
      </div>
      {(chips.length > 0 || changed || depth() > 0) && (
        <div class="chips" role="group" aria-label="Chosen filters">
          {chips.map((f) => (
            <button key={f.name} type="button" class="chip" aria-label={`Remove the filter ${f.label}: ${words(f, filterOf(chosen, f), dashboard.currency)}`}
              onClick={() => change((s) => set(s, f, { values: f.default || [], from: "", to: "" }))}>
              {f.label}: {words(f, filterOf(chosen, f), dashboard.currency)} <span aria-hidden="true">×</span>
            </button>
          ))}
          {depth() > 0 && <button type="button" class="small" onClick={undo}>Undo</button>}
          {changed && <button type="button" class="small" onClick={() => change((s) => { s.filters = {}; s.origin = {}; s.panels = {}; })}>Clear all</button>}
        </div>
      )}
    </section>
  );
}

// useChoices asks for a filter's values.
function useChoices(dashboard, filter, search, open) {
  const [state, update] = useState({ values: filter.values || [] });
  useEffect(() => {
    if (!open || filter.values) return;
    const abort = new AbortController();
    const timer = setTimeout(() => ask("/api/dashboards/choices", { dashboard: dashboard.name, filter: filter.name, search }, abort.signal)
      .then((d) => update({ values: d.rows.map((r) => r[0]), more: d.rows.length >= 200 }), (e) => e.name !== "AbortError" && update({ values: [], error: e })), search ? 200 : 0);
    return () => { clearTimeout(timer); abort.abort(); };
  }, [dashboard.name, filter.name, search, open]);
  return state;
}

function Values({ dashboard, filter, now }) {
  const [open, setOpen] = useState(false), [search, setSearch] = useState("");
  const box = useRef(null), id = useId();
  const choices = useChoices(dashboard, filter, search, open);
  useEffect(() => {
    if (!open) return;
    const out = (e) => { if (!box.current.contains(e.target)) setOpen(false); };
    addEventListener("pointerdown", out);
    addEventListener("focusin", out);
    return () => { removeEventListener("pointerdown", out); removeEventListener("focusin", out); };
  }, [open]);
  const toggle = (v) => change((s) => {
    const values = now.values.includes(v) ? now.values.filter((x) => x !== v) : [...now.values, v];
    set(s, filter, { values, from: "", to: "" });
  });
  const listed = search ? choices.values : [...now.values.filter((v) => v !== null && !choices.values.includes(v)), ...choices.values];
  const shut = (e) => { if (e.key === "Escape") { setOpen(false); box.current.querySelector("button").focus(); } };
  return (
    <div class="filter" ref={box} onKeyDown={shut}>
      <button type="button" aria-expanded={open} aria-controls={id} class={isSet(now) ? "set" : ""} onClick={() => setOpen(!open)}>
        {filter.label}{isSet(now) ? ` (${now.values.length})` : ""} <span aria-hidden="true">▾</span>
      </button>
      {open && (
        <div class="popup" id={id} role="group" aria-label={filter.label}>
          {!filter.values && <input type="search" placeholder="Search" aria-label={`Search ${filter.label}`} value={search} onInput={(e) => setSearch(e.target.value)} />}
          {choices.error && <p class="note">{choices.error.message}</p>}
          <div class="list">
            {listed.map((v) => (
              <label key={v}><input type="checkbox" checked={now.values.includes(v)} onChange={() => toggle(v)} /> <span>{text(v, { ...filter, format: filter.format === "id" ? "" : filter.format })}</span></label>
            ))}
            {!listed.length && !choices.error && <p class="note">Nothing to choose.</p>}
          </div>
          {choices.more && <p class="note">There are more: search for them.</p>}
        </div>
      )}
    </div>
  );
}

function Buttons({ filter, now }) {
  const colors = usePalette();
  const toggle = (v) => change((s) => {
    const values = now.values.includes(v) ? now.values.filter((x) => x !== v) : filter.values.filter((x) => x === v || now.values.includes(x));
    set(s, filter, { values, from: "", to: "" });
  });
  return (
    <div class="filter buttons" role="group" aria-label={filter.label}>
      <span class="label">{filter.label}</span>
      {filter.values.map((v) => (
        <button key={v} type="button" aria-pressed={now.values.includes(v)} onClick={() => toggle(v)}><i class="dot" style={{ background: colors.of(filter, v, 0) }} />{text(v, filter)}</button>
      ))}
    </div>
  );
}

function Range({ dashboard, filter, now, step }) {
  // Asked for at first, and again whenever a reader is about to choose.
  const [asked, again] = useState(1);
  const choices = useChoices(dashboard, filter, "", step ? asked : 0);
  const listed = [...new Set([...choices.values, now.from, now.to].filter(Boolean))].sort();
  const put = (end, v) => change((s) => set(s, filter, { values: [], from: now.from, to: now.to, [end]: v }));
  const choice = (end, other) => (
    <select aria-label={`${filter.label} ${end}`} value={now[end]} onFocus={() => again(asked + 1)} onChange={(e) => put(end, e.target.value)}>
      <option value="">{end === "from" ? "first" : "last"}</option>
      {listed.filter((v) => !other || (end === "from" ? v <= other : v >= other)).map((v) => <option key={v} value={v}>{text(v, filter)}</option>)}
    </select>
  );
  return <div class={`filter range${isSet(now) ? " set" : ""}`} role="group" aria-label={filter.label}><span class="label">{filter.label}</span>{choice("from", now.to)}<span aria-hidden="true">–</span>{choice("to", now.from)}</div>;
}
