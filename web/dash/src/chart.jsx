import { useEffect, useRef, useState } from "preact/hooks";
import { ask } from "./api.js";
import { build } from "./charts.js";
import { echarts } from "./echarts.js";
import { onTheme, palette } from "./palette.js";

// usePalette gives the colors, anew when the system turns dark or light.
export function usePalette() {
  const [colors, set] = useState(palette);
  useEffect(() => onTheme(() => set(palette())), []);
  return colors;
}

// useWidth follows the width of an element, in pixels.
export function useWidth(ref) {
  const [width, set] = useState(0);
  useEffect(() => {
    const watch = new ResizeObserver(([e]) => set(Math.round(e.contentRect.width)));
    watch.observe(ref.current);
    return () => watch.disconnect();
  }, []);
  return width;
}

// Chart draws a panel's rows by ECharts. by: what a swap shows; a new one
// starts over, while new rows keep zoom, brush and legend.
export function Chart({ dashboard, panel, columns, rows, currency, selected, onPick, by, handle }) {
  const ref = useRef(null), chart = useRef(null), made = useRef(null), last = useRef("");
  const pick = useRef(onPick);
  pick.current = onPick;
  const colors = usePalette(), width = useWidth(ref);
  const outline = useOutline(dashboard, panel);
  useEffect(() => {
    const c = (chart.current = echarts.init(ref.current, null, { renderer: "canvas" }));
    handle.current = ref.current.chart = c;
    c.on("click", (p) => {
      const row = made.current?.pick(p);
      if (row) pick.current(row, p.event?.event?.ctrlKey || p.event?.event?.metaKey || p.event?.event?.shiftKey);
    });
    let timer;
    c.on("georoam", () => { clearTimeout(timer); timer = setTimeout(() => settle(c, made.current), 150); });
    return () => { handle.current = null; clearTimeout(timer); c.dispose(); };
  }, []);
  useEffect(() => { if (width) chart.current.resize(); }, [width]);
  useEffect(() => {
    if (!width || (panel.outline && !outline)) return;
    made.current = build({ panel, columns, rows, currency, colors, selected, width, narrow: width < 480, map: outline });
    const key = JSON.stringify([by, colors.dark, width < 480]);
    chart.current.setOption(made.current.option, key === last.current ? { replaceMerge: ["series"] } : { notMerge: true });
    if (key === last.current) settle(chart.current, made.current);
    last.current = key;
  }, [panel, rows, colors, width < 480, width > 0, by, outline, selected.key]);
  return <div class="canvas" ref={ref} role="img" aria-label={`${panel.title}: chart of ${rows.length} rows. The button Data shows them as a table, in which each can be chosen.`} />;
}

// settle draws what a chart shows where the reader has moved it to.
function settle(chart, made) {
  const series = made?.moved?.(chart);
  if (series) chart.setOption({ series });
}

const outlines = new Map();

// useOutline fetches the outline of a map once.
function useOutline(dashboard, panel) {
  const [map, set] = useState(null);
  useEffect(() => {
    if (!panel.outline) return;
    const path = `/api/dashboards/${dashboard}/${panel.name}/outline`;
    if (!outlines.has(path)) outlines.set(path, ask(path).then((geo) => register(path, geo)).catch((e) => { outlines.delete(path); throw e; }));
    outlines.get(path).then(set, () => {});
  }, [panel.name]);
  return map;
}

// register makes a map known, framed by the features that are not context.
function register(name, geo) {
  echarts.registerMap(name, geo);
  let [west, south, east, north] = [180, 90, -180, -90];
  for (const f of geo.features) {
    if (f.properties.context) continue;
    for (const polygon of f.geometry.coordinates) {
      for (const [x, y] of f.geometry.type === "Polygon" ? polygon : polygon[0]) {
        west = Math.min(west, x); east = Math.max(east, x); south = Math.min(south, y); north = Math.max(north, y);
      }
    }
  }
  return { name, bounds: [[west, north], [east, south]], context: geo.features.filter((f) => f.properties.context).map((f) => f.properties.name) };
}
