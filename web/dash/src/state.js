// What the reader chose. It stands in the address, so that a link opens the
// same view and the browser's Back is an undo. Filters are keys without a dot;
// what belongs to a panel is KIND.PANEL: by, sort, page, q, view.

import { useEffect, useState } from "preact/hooks";

const NULL = "∅";
const listeners = new Set();

export function dashboardName() { return decodeURIComponent(location.pathname.split("/")[2] || ""); }

function parse(search) {
  const state = { filters: {}, origin: {}, panels: {} };
  for (const [key, value] of new URLSearchParams(search)) {
    const [kind, panel] = key.split(".");
    if (panel === undefined) {
      const f = (state.filters[key] ??= { values: [], from: "", to: "" });
      const range = value.match(/^(.*)\.\.(.*)$/);
      if (range) [, f.from, f.to] = range;
      else if (value !== "") f.values.push(value === NULL ? null : value);
    } else if (kind === "from") state.origin[panel] = value;
    else (state.panels[panel] ??= {})[kind] = value;
  }
  return state;
}

function write(state) {
  const q = new URLSearchParams();
  for (const [name, f] of Object.entries(state.filters)) {
    if (f.from || f.to) q.append(name, `${f.from}..${f.to}`);
    else if (!f.values.length) q.append(name, "");
    for (const v of f.values) q.append(name, v === null ? NULL : v);
  }
  for (const [name, panel] of Object.entries(state.origin)) if (state.filters[name]) q.append(`from.${name}`, panel);
  for (const [panel, parts] of Object.entries(state.panels)) {
    for (const [kind, v] of Object.entries(parts)) if (v) q.append(`${kind}.${panel}`, v);
  }
  return q.toString();
}

let current = parse(location.search);

function tell() { for (const f of listeners) f(current); }

addEventListener("popstate", () => { current = parse(location.search); tell(); });

// change makes a new state of a copy; each change can be undone by Back.
// quiet ones (a page turned, a letter typed) replace the last.
export function change(f, quiet = false) {
  const next = structuredClone(current);
  f(next);
  const text = write(next);
  const url = location.pathname + (text ? "?" + text : "");
  if (url === location.pathname + location.search) return;
  if (quiet) history.replaceState(history.state, "", url);
  else history.pushState({ depth: depth() + 1 }, "", url);
  current = next;
  tell();
}

export function depth() { return history.state?.depth || 0; }
export function undo() { history.back(); }

export function go(name) {
  history.pushState({ depth: 0 }, "", "/dash/" + encodeURIComponent(name));
  current = parse("");
  tell();
}

export function useChosen() {
  const [, set] = useState(0);
  useEffect(() => {
    const f = () => set((n) => n + 1);
    listeners.add(f);
    return () => listeners.delete(f);
  }, []);
  return current;
}

// filterOf gives what holds for a filter: what was chosen, or its default.
export function filterOf(state, filter) {
  return state.filters[filter.name] || { values: filter.default || [], from: "", to: "" };
}

export function isSet(f) { return f.values.length > 0 || f.from !== "" || f.to !== ""; }

// pick chooses or drops a value. origin: the panel that it was clicked in,
// which shows it among the others instead of alone. more: keep the others.
export function pick(state, filter, value, origin, more) {
  const now = filterOf(state, filter);
  if (filter.kind === "range") {
    const same = now.from === value && now.to === value;
    set(state, filter, same ? { values: [], from: "", to: "" } : { values: [], from: value, to: value }, origin);
    return;
  }
  const had = now.values.includes(value);
  const rest = now.values.filter((v) => v !== value);
  const values = had && (more || rest.length === 0) ? rest : more ? [...rest, value] : [value];
  set(state, filter, { values, from: "", to: "" }, origin);
}

export function set(state, filter, selection, origin) {
  delete state.origin[filter.name];
  const plain = JSON.stringify(selection.values) === JSON.stringify(filter.default || []) && !selection.from && !selection.to;
  if (plain) { delete state.filters[filter.name]; return; }
  state.filters[filter.name] = selection;
  if (origin && isSet(selection)) state.origin[filter.name] = origin;
}

export function panelState(state, panel) { return state.panels[panel] || {}; }

export function setPanel(state, panel, parts) {
  state.panels[panel] = { ...state.panels[panel], ...parts };
}
