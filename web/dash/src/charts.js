// One function per chart type: from rows to ECharts' options. Each gives
// {option, pick(params) -> row}; a row is an object by column name.

import { text } from "./format.js";

// build makes the options of a panel's chart.
// c: {panel, columns (by name), rows, currency, colors, width, narrow, selected(row), map}
export function build(c) {
  const made = kinds[c.panel.chart](c);
  // Series with names of their own are changed by new rows, not drawn anew.
  made.option.series.forEach((one, i) => { one.id = seriesId(one.type, one.name || i); });
  const font = { color: c.colors.ink, fontFamily: "system-ui, sans-serif" };
  made.option = {
    textStyle: font, animation: !c.colors.still, animationDuration: 300, animationDurationUpdate: 300, aria: { enabled: true, label: { description: c.panel.title } },
    ...made.option,
    tooltip: { ...tooltipBox(c), ...made.option.tooltip },
  };
  if (made.option.legend) {
    made.option.legend = { type: "scroll", top: 0, left: 0, right: 0, itemWidth: 12, itemHeight: 10, icon: "roundRect", textStyle: { color: c.colors.ink },
      pageTextStyle: { color: c.colors.soft }, pageIconColor: c.colors.ink, pageIconInactiveColor: c.colors.line, ...made.option.legend };
  }
  return made;
}

function seriesId(type, name) { return `${type} ${name}`; }

const kinds = { bar: series, area: series, line: series, combo, pareto: combo, bubble, sankey, parallel, map };

function tooltipBox(c) {
  return { trigger: "item", confine: true, className: "tip", backgroundColor: c.colors.card, borderColor: c.colors.line, textStyle: { color: c.colors.ink, fontSize: 12 }, extraCssText: "" };
}

// tip makes a tooltip of nodes: the page allows no styles in markup.
function tip(title, lines) {
  const box = document.createElement("div");
  const head = box.appendChild(document.createElement("strong"));
  head.textContent = title;
  const list = box.appendChild(document.createElement("table"));
  for (const [name, value, color] of lines) {
    const row = list.insertRow();
    const label = row.insertCell();
    if (color) {
      const dot = label.appendChild(document.createElement("i"));
      dot.className = "dot";
      dot.style.background = color;
    }
    label.append(name);
    const cell = row.insertCell();
    cell.className = "number";
    cell.textContent = value;
  }
  return box;
}

function show(c, column, value, compact) { return text(value, c.columns[column], c.currency, compact); }

function rowTip(c, row, color) {
  const e = c.panel.encode;
  const names = Object.keys(row).filter((n) => n !== e.label && c.columns[n]);
  const title = e.label ? `${c.columns[e.label].label} ${show(c, e.label, row[e.label])}` : "";
  return tip(title, names.map((n) => [c.columns[n].label, show(c, n, row[n]), n === e.color ? color : ""]));
}

// distinct values of a column: in the order that the dashboard gives, then as
// they come.
function distinct(c, column) {
  const seen = [...new Set(c.rows.map((r) => r[column]))];
  const order = c.columns[column]?.order || Object.keys(c.columns[column]?.colors || {});
  const place = (v) => (v === "Other" ? 1e6 : order.indexOf(v) >= 0 ? order.indexOf(v) : 1e3);
  return seen.sort((a, b) => place(a) - place(b));
}

function axis(c, column, extra) {
  return {
    name: c.columns[column].label, nameLocation: "middle", nameGap: 28, nameTextStyle: { color: c.colors.soft },
    axisLine: { lineStyle: { color: c.colors.line } }, axisTick: { show: false }, splitLine: { lineStyle: { color: c.colors.line, opacity: .6 } },
    axisLabel: { color: c.colors.soft, hideOverlap: true, formatter: (v) => show(c, column, v, true) }, ...extra,
  };
}

const grid = (c, extra) => ({ left: 8, right: 12, top: 34, bottom: 8, containLabel: true, outerBoundsMode: "same", ...extra });

function faded(c, row) { return c.selected(row) ? 1 : .25; }

// series: stacked bars, step areas and lines, by x and color.
function series(c) {
  const { x, y, color } = c.panel.encode;
  const xs = distinct(c, x), groups = color ? distinct(c, color) : [""];
  const at = new Map(c.rows.map((r) => [JSON.stringify([r[x], color ? r[color] : ""]), r]));
  const sums = xs.map((v) => groups.reduce((n, g) => n + Number(at.get(JSON.stringify([v, g]))?.[y] || 0), 0));
  if (color && !Object.keys(c.columns[color].colors || {}).length) {
    const total = new Map(groups.map((g) => [g, xs.reduce((n, v) => n + Number(at.get(JSON.stringify([v, g]))?.[y] || 0), 0)]));
    groups.sort((a, b) => (a === "Other") - (b === "Other") || total.get(b) - total.get(a));
  }
  const area = c.panel.chart === "area", bar = c.panel.chart === "bar", share = c.panel.stack === "percent";
  const list = groups.map((g, place) => {
    const fill = c.colors.of(c.columns[color], g, place);
    return {
      name: color ? show(c, color, g) : c.columns[y].label, type: bar ? "bar" : "line", stack: c.panel.chart === "line" ? undefined : "all", step: area ? "middle" : undefined,
      symbol: "none", color: fill, lineStyle: { width: area ? 1 : 2 }, areaStyle: area ? { opacity: .55 } : undefined, barMaxWidth: 46, emphasis: { focus: "series" }, triggerLineEvent: true,
      data: xs.map((v, i) => {
        const row = at.get(JSON.stringify([v, g])) || { [x]: v, ...(color ? { [color]: g } : {}), [y]: 0 };
        const value = share ? (sums[i] ? Number(row[y]) / sums[i] : 0) : Number(row[y]);
        return { value, row, itemStyle: { opacity: faded(c, row) } };
      }),
    };
  });
  if (c.panel.totals) list.push(totals(c, y, sums));
  const option = {
    grid: grid(c, { top: color ? 38 : 14 }), legend: color ? { data: groups.map((g) => show(c, color, g)) } : undefined,
    xAxis: axis(c, x, { type: "category", data: xs, name: "", boundaryGap: bar, splitLine: { show: false } }),
    yAxis: axis(c, y, { type: "value", name: "" }),
    tooltip: { trigger: "axis", axisPointer: { type: bar ? "shadow" : "line" }, formatter: (ps) => stackTip(c, ps, x, y, sums) },
    series: list,
  };
  return { option, pick: (p) => p.data?.row || list[p.seriesIndex]?.data[p.dataIndex]?.row };
}

function totals(c, y, sums) {
  return { name: "total", type: "line", symbol: "circle", symbolSize: 1, showAllSymbol: true, itemStyle: { color: "transparent" }, lineStyle: { width: 0 }, silent: true, tooltip: { show: false }, data: sums, z: 5,
    label: { show: true, position: "top", color: c.colors.soft, fontSize: c.narrow ? 9 : 11, formatter: (p) => show(c, y, p.value, true) }, labelLayout: { hideOverlap: true } };
}

function stackTip(c, ps, x, y, sums) {
  const parts = ps.filter((p) => p.seriesName !== "total" && p.data?.row && Number(p.data.row[y]) !== 0);
  if (!ps.length) return "";
  const lines = parts.map((p) => [p.seriesName, show(c, y, p.data.row[y]), p.color]).reverse();
  if (parts.length > 1) lines.push(["Total", show(c, y, sums[ps[0].dataIndex]), ""]);
  return tip(show(c, x, ps[0].axisValue), lines);
}

// combo: bars, and a line on an axis of its own; a Pareto chart is one.
function combo(c) {
  const { x, y, line } = c.panel.encode;
  const share = c.panel.chart === "pareto";
  const color = c.colors.named.blue, over = c.colors.named.orange;
  const many = c.rows.length > 60;
  const option = {
    grid: grid(c), legend: { data: [c.columns[y].label, c.columns[line].label] },
    xAxis: axis(c, x, { type: "category", data: c.rows.map((r) => r[x]), name: share ? "" : c.columns[x].label, splitLine: { show: false },
      axisLabel: { color: c.colors.soft, rotate: share ? 40 : 0, width: c.narrow ? 80 : 120, overflow: "truncate", fontSize: 11, interval: share ? Math.ceil(c.rows.length * 20 / c.width) - 1 : "auto", formatter: (v) => show(c, x, v, true) } }),
    yAxis: [axis(c, y, { type: "value", name: "" }),
      axis(c, line, { type: "value", name: "", position: "right", splitLine: { show: false }, min: share ? 0 : undefined, max: share ? 1 : undefined, scale: !share })],
    dataZoom: many && share ? [{ type: "inside", start: 0, end: 100 }] : undefined,
    tooltip: { trigger: "axis", axisPointer: { type: "shadow" }, formatter: (ps) => {
      const row = c.rows[ps[0].dataIndex];
      return tip(`${c.columns[x].label} ${show(c, x, row[x])}`, [y, line].map((n, i) => [c.columns[n].label, show(c, n, row[n]), i ? over : color]));
    } },
    series: [
      { name: c.columns[y].label, type: "bar", color, barMaxWidth: 46, data: c.rows.map((row) => ({ value: Number(row[y]), row, itemStyle: { opacity: faded(c, row), borderRadius: [2, 2, 0, 0] } })) },
      { name: c.columns[line].label, type: "line", yAxisIndex: 1, color: over, symbolSize: many ? 0 : 5, showAllSymbol: !many, lineStyle: { width: 2 }, data: c.rows.map((row) => ({ value: row[line], row })) },
    ],
  };
  if (c.narrow) option.grid.bottom = 8;
  return { option, pick: (p) => c.rows[p.dataIndex] };
}

function bubble(c) {
  const { x, y, size, color } = c.panel.encode;
  const log = (role) => (c.panel.log || []).includes(role);
  const rows = c.rows.filter((r) => r[x] !== null && r[y] !== null && (!log("x") || r[x] > 0) && (!log("y") || r[y] > 0));
  const most = size ? Math.max(1e-9, ...rows.map((r) => Number(r[size]))) : 1;
  const groups = color ? distinct(c, color) : [""];
  const list = groups.map((g, place) => ({
    name: color ? show(c, color, g) : c.panel.title, type: "scatter", color: c.colors.of(c.columns[color], g, place), emphasis: { focus: "series", scale: 1.15 },
    data: rows.filter((r) => !color || r[color] === g).map((row) => ({
      value: [Number(row[x]), Number(row[y])], row, symbolSize: size ? Math.max(3, 44 * Math.sqrt(Math.max(0, Number(row[size])) / most)) : 8,
      itemStyle: { opacity: faded(c, row) * .62, borderColor: c.colors.card, borderWidth: .3 },
    })),
  }));
  const kind = (role) => ({ type: log(role) ? "log" : "value", logBase: 10, scale: true, minorSplitLine: { show: log(role), lineStyle: { color: c.colors.line, opacity: .25 } } });
  return {
    option: {
      grid: grid(c, { bottom: 26, left: 34 }), legend: color ? { data: groups.map((g) => show(c, color, g)) } : undefined,
      xAxis: axis(c, x, { ...kind("x"), ...bounds(rows, x, log("x")) }), yAxis: axis(c, y, { ...kind("y"), ...bounds(rows, y, log("y")), nameGap: 56 }),
      tooltip: { formatter: (p) => rowTip(c, p.data.row, p.color) }, series: list,
    },
    pick: (p) => p.data?.row,
  };
}

// bounds end a logarithmic axis a little outside of its values, not at powers
// of ten.
function bounds(rows, column, log) {
  if (!log || !rows.length) return {};
  let least = Infinity, most = 0;
  for (const r of rows) { least = Math.min(least, Number(r[column])); most = Math.max(most, Number(r[column])); }
  return { min: tidy(least / 1.4, Math.floor), max: tidy(most * 1.4, Math.ceil) };
}

function tidy(v, round) {
  const step = 10 ** Math.floor(Math.log10(v));
  return round(v / step) * step || step;
}

function sankey(c) {
  const { source, target, value } = c.panel.encode;
  const lefts = distinct(c, source), rights = [...new Set(c.rows.map((r) => r[target]))];
  const id = (side, v) => side + JSON.stringify(v);
  const fill = new Map();
  const scores = rights.filter((v) => typeof v === "number");
  const least = Math.min(...scores), most = Math.max(...scores);
  lefts.forEach((v, i) => fill.set(id("s", v), c.colors.of(c.columns[source], v, i)));
  rights.forEach((v, i) => fill.set(id("t", v), typeof v === "number" ? c.colors.score((v - least) / Math.max(1, most - least)) : c.colors.of(c.columns[target], v, i + 4)));
  const label = (side, v) => (side === "s" ? show(c, source, v) : `${c.columns[target].label} ${show(c, target, v)}`);
  const nodes = [...lefts.map((v) => ["s", v]), ...rights.map((v) => ["t", v])].map(([side, v]) => ({
    name: id(side, v), row: { [side === "s" ? source : target]: v }, itemStyle: { color: fill.get(id(side, v)), borderWidth: 0 },
    label: { formatter: label(side, v), position: side === "s" ? "right" : "left" }, depth: side === "s" ? 0 : 1,
  }));
  const sum = c.rows.reduce((n, r) => n + Number(r[value]), 0);
  return {
    option: {
      tooltip: { formatter: (p) => {
        if (p.dataType === "node") return tip(p.data.label.formatter, [[c.columns[value].label, show(c, value, p.value), p.color]]);
        const of = c.rows.filter((r) => r[source] === p.data.row[source]).reduce((n, r) => n + Number(r[value]), 0);
        return tip(`${label("s", p.data.row[source])} → ${label("t", p.data.row[target])}`, [[c.columns[value].label, show(c, value, p.data.row[value]), ""],
          ["of the left", text(p.data.row[value] / of, { format: "percent" })], ["of all", text(p.data.row[value] / sum, { format: "percent" })]]);
      } },
      series: [{
        type: "sankey", left: 4, right: 4, top: 8, bottom: 8, nodeWidth: 14, nodeGap: 10, draggable: false, layoutIterations: 0, emphasis: { focus: "adjacency" },
        label: { color: c.colors.ink, fontSize: 12, textBorderColor: c.colors.card, textBorderWidth: 3 }, lineStyle: { color: "gradient", opacity: c.colors.dark ? .4 : .32, curveness: .5 },
        data: nodes,
        links: c.rows.map((row) => ({ source: id("s", row[source]), target: id("t", row[target]), value: Number(row[value]), row, lineStyle: { opacity: faded(c, row) * (c.colors.dark ? .42 : .34) } })),
      }],
    },
    pick: (p) => p.data?.row,
  };
}

function parallel(c) {
  const { color } = c.panel.encode;
  const names = c.panel.columns.map((col) => col.name);
  const numbers = color ? c.rows.map((r) => Number(r[color])).filter(Number.isFinite) : [];
  const least = Math.min(...numbers), most = Math.max(...numbers);
  const tone = (row) => (color ? c.colors.heat((Number(row[color]) - least) / ((most - least) || 1)) : c.colors.named.blue);
  const axes = names.map((n, dim) => {
    const column = c.columns[n];
    const base = { dim, name: c.narrow ? column.label.replaceAll(" ", "\n") : column.label, nameTextStyle: { color: c.colors.ink, lineHeight: 13, fontSize: c.narrow ? 10 : 12 },
      axisLine: { lineStyle: { color: c.colors.soft } }, axisLabel: { color: c.colors.ink, formatter: (v) => text(v, column, c.currency, true), fontSize: c.narrow ? 9 : 11, textBorderColor: c.colors.card, textBorderWidth: 3 }, axisTick: { show: false }, minorTick: { show: false } };
    if (dim === 0) Object.assign(base.axisLabel, { align: "right", margin: -8 });
    return column.measure ? { ...base, type: "value", scale: true } : { ...base, type: "category", data: distinct(c, n), axisLabel: { ...base.axisLabel, interval: "auto" } };
  });
  return {
    option: {
      parallelAxis: axes,
      parallel: { left: c.narrow ? 46 : 60, right: c.narrow ? 34 : 70, top: c.narrow ? 62 : 38, bottom: 14, parallelAxisDefault: { nameLocation: "end", nameGap: 14, areaSelectStyle: { width: 18, color: c.colors.accent, opacity: .25 } } },
      tooltip: { formatter: (p) => tip(show(c, names[0], p.data.row[names[0]]), names.slice(1).map((n) => [c.columns[n].label, show(c, n, p.data.row[n]), ""])) },
      series: [{ type: "parallel", smooth: .15, emphasis: { lineStyle: { width: 4, opacity: 1 } }, inactiveOpacity: .06, activeOpacity: .9,
        data: c.rows.map((row) => ({ value: names.map((n) => row[n]), row, lineStyle: { color: tone(row), width: 2, opacity: faded(c, row) * .8 } })) }],
    },
    pick: (p) => p.data?.row,
  };
}

// map: points on the outline that the project gives. Rows at the same place are
// one point, and many points are drawn at once, without an object for each. Of
// more than DRAWN only those that can be told apart: so a map of 100,000 moves
// with the hand, and shows each place when one comes near.
function map(c) {
  const { color, label } = c.panel.encode;
  const groups = color ? distinct(c, color) : [""];
  const parts = groups.map((g) => places(c, color ? c.rows.filter((r) => r[color] === g) : c.rows));
  const all = parts.reduce((n, p) => n + p.length, 0);
  let drawn = thin(parts, wholeView(c));
  const few = all <= 60, size = few ? 11 : all < 3000 ? 5 : 3;
  return {
    option: {
      legend: color ? { data: groups.map((g) => show(c, color, g)), backgroundColor: c.colors.card, padding: [6, 8] } : undefined,
      geo: { map: c.map.name, roam: true, boundingCoords: c.map.bounds, top: 34, bottom: 6, left: 6, right: 6, aspectScale: .97, scaleLimit: { min: .8, max: 60 }, selectedMode: false, silent: true, label: { show: false },
        itemStyle: { areaColor: c.colors.land, borderColor: c.colors.page, borderWidth: .8 }, emphasis: { disabled: true },
        regions: c.map.context.map((name) => ({ name, itemStyle: { areaColor: c.colors.context, borderColor: c.colors.page } })) },
      tooltip: { formatter: (p) => {
        const { row, count } = drawn[p.seriesIndex][p.dataIndex];
        const more = count > 1 && label ? [[c.columns[label].label, `${count - 1} more here`, ""]] : [];
        const lines = Object.keys(row).filter((n) => n !== label && c.columns[n]).map((n) => [c.columns[n].label, show(c, n, row[n]), n === color ? p.color : ""]);
        return tip(label ? `${c.columns[label].label} ${show(c, label, row[label])}` : "", [...more, ...lines]);
      } },
      series: groups.map((g, i) => ({
        name: color ? show(c, color, g) : c.panel.title, type: "scatter", coordinateSystem: "geo", color: c.colors.of(c.columns[color], g, i), large: true, largeThreshold: 2000, progressive: 0,
        symbolSize: size, animation: false, itemStyle: { opacity: few ? .95 : all < 3000 ? .75 : .6 }, data: drawn[i].map((p) => p.at),
      })),
    },
    pick: (p) => drawn[p.seriesIndex]?.[p.dataIndex]?.row,
    // moved gives the series anew for what the chart shows now; null: all are drawn.
    moved: all <= DRAWN ? null : (chart) => {
      drawn = thin(parts, viewOf(chart));
      return drawn.map((d, i) => ({ id: seriesId("scatter", groups[i] === "" ? c.panel.title : show(c, color, groups[i])), data: d.map((p) => p.at) }));
    },
  };
}

// DRAWN is how many points a map draws at once, of which each frame of a move
// takes a few milliseconds.
const DRAWN = 15000;

// A view is what can be seen of a map: its ends, and degrees in a pixel.
function wholeView(c) {
  const [[west, north], [east, south]] = c.map.bounds;
  return { west: -Infinity, east: Infinity, south: -Infinity, north: Infinity, pixel: Math.max((east - west) / c.width, (north - south) / c.width) };
}

function viewOf(chart) {
  const [west, north] = chart.convertFromPixel("geo", [0, 0]), [east, south] = chart.convertFromPixel("geo", [chart.getWidth(), chart.getHeight()]);
  const aside = (east - west) / 2, above = (north - south) / 2; // what a short move brings into sight
  return { west: west - aside, east: east + aside, south: south - above, north: north + above, pixel: (east - west) / chart.getWidth() };
}

// thin leaves out what lies outside of a view, and then all but one point of
// each cell of a grid, as fine as DRAWN allows.
function thin(parts, view) {
  const count = (list) => list.reduce((n, p) => n + p.length, 0);
  if (count(parts) <= DRAWN) return parts;
  const inside = parts.map((part) => part.filter(({ at: [x, y] }) => x >= view.west && x <= view.east && y >= view.south && y <= view.north));
  let left = inside;
  for (let cell = Math.max(view.pixel, 1e-6) * 1.5; count(left) > DRAWN; cell *= 1.3) left = inside.map((part) => oneOfEach(part, cell));
  return left;
}

function oneOfEach(part, cell) {
  const taken = new Set();
  return part.filter(({ at: [x, y] }) => {
    const key = Math.floor(x / cell) * 1e6 + Math.floor(y / cell);
    return !taken.has(key) && taken.add(key);
  });
}

function places(c, rows) {
  const { lng, lat } = c.panel.encode;
  const at = new Map();
  for (const row of rows) {
    const key = row[lng] + " " + row[lat], old = at.get(key);
    if (old) old.count++;
    else at.set(key, { at: [row[lng], row[lat]], row, count: 1 });
  }
  return [...at.values()];
}
