// CSV and PNG of a panel, with the filters named.

import { text } from "./format.js";

function save(blob, name) {
  const a = document.createElement("a");
  a.href = URL.createObjectURL(blob);
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(a.href), 10000);
}

function fileName(title, filters, ending) {
  const parts = [title, ...filters.map((f) => f.text)].join(" - ").replace(/[^\p{L}\p{N} .,=_–-]+/gu, "_");
  return `${parts.slice(0, 140).trim()}.${ending}`;
}

// csvText writes RFC 4180: a header, empty for null. The last column names
// the filters.
export function csvText(columns, rows, filters) {
  const quote = (v) => (v === null || v === undefined ? "" : /[",\r\n]/.test(String(v)) ? `"${String(v).replaceAll('"', '""')}"` : String(v));
  const named = filters.map((f) => f.text).join("; ");
  const line = (cells) => cells.map(quote).join(",") + "\r\n";
  return line([...columns.map((c) => c.name), ...(named ? ["filters"] : [])])
    + rows.map((r) => line([...columns.map((c) => r[c.name]), ...(named ? [named] : [])])).join("");
}

export function saveCSV(title, columns, rows, filters) {
  save(new Blob([csvText(columns, rows, filters)], { type: "text/csv;charset=utf-8" }), fileName(title, filters, "csv"));
}

const SCALE = 2, EDGE = 16, HEAD = 26, LINE = 18;

// savePNG draws a title, the filters, and under them what draw puts there.
export function savePNG(title, filters, colors, width, height, draw) {
  const lines = wrap(filters.length ? filters.map((f) => f.text).join(" · ") : "No filters", width);
  const top = EDGE + HEAD + lines.length * LINE + 8;
  const canvas = document.createElement("canvas");
  canvas.width = (width + 2 * EDGE) * SCALE;
  canvas.height = (top + height + EDGE) * SCALE;
  const g = canvas.getContext("2d");
  g.scale(SCALE, SCALE);
  g.fillStyle = colors.card;
  g.fillRect(0, 0, canvas.width, canvas.height);
  g.fillStyle = colors.ink;
  g.font = "600 17px system-ui, sans-serif";
  g.fillText(title, EDGE, EDGE + 16);
  g.fillStyle = colors.soft;
  g.font = "12px system-ui, sans-serif";
  lines.forEach((l, i) => g.fillText(l, EDGE, EDGE + HEAD + 10 + i * LINE));
  g.translate(EDGE, top);
  draw(g);
  canvas.toBlob((blob) => save(blob, fileName(title, filters, "png")), "image/png");
}

function wrap(line, width) {
  const most = Math.max(20, Math.floor(width / 6.5)), out = [];
  let now = "";
  for (const word of line.split(" ")) {
    if (now && now.length + word.length > most) { out.push(now); now = ""; }
    now += (now ? " " : "") + word;
  }
  return [...out, now].slice(0, 6);
}

export function chartPNG(title, filters, colors, chart) {
  const picture = chart.renderToCanvas ? chart.renderToCanvas({ pixelRatio: SCALE, backgroundColor: colors.card }) : chart.getRenderedCanvas({ pixelRatio: SCALE, backgroundColor: colors.card });
  savePNG(title, filters, colors, chart.getWidth(), chart.getHeight(), (g) => g.drawImage(picture, 0, 0, chart.getWidth(), chart.getHeight()));
}

export function cloudPNG(title, filters, c) {
  savePNG(title, filters, c.colors, c.width, c.height, (g) => {
    g.translate(c.width / 2, c.height / 2);
    g.textAlign = "center";
    for (const w of c.words) {
      g.font = `600 ${w.size}px ${c.font}`;
      g.fillStyle = c.tone(w.row);
      g.fillText(w.text, w.x, w.y);
    }
  });
}

export function tablePNG(title, filters, colors, columns, rows, currency) {
  const cells = [columns.map((c) => c.label), ...rows.map((r) => columns.map((c) => text(r[c.name], c, currency)))];
  const widths = columns.map((_, i) => Math.min(280, 18 + 7 * Math.max(...cells.map((r) => r[i].length))));
  const total = widths.reduce((a, b) => a + b, 0);
  savePNG(title, filters, colors, total, cells.length * 24, (g) => {
    g.font = "13px system-ui, sans-serif";
    cells.forEach((row, y) => {
      let x = 0;
      row.forEach((cell, i) => {
        g.fillStyle = y === 0 ? colors.soft : colors.ink;
        g.fillText(cell, x, y * 24 + 16, widths[i] - 8);
        x += widths[i];
      });
      g.fillStyle = colors.line;
      g.fillRect(0, y * 24 + 23, total, 1);
    });
  });
}
