import { isNumber, count, text } from "./format.js";

// Cell shows a value: as a badge, over a bar, or plain.
export function Cell({ column, value, most, currency, colors }) {
  const shown = text(value, column, currency);
  if (value === null || value === undefined) return <span class="null">–</span>;
  if (column.format === "badge") return <span class="badge"><i class="dot" style={{ background: colors.of(column, value, 0) }} />{shown}</span>;
  if (column.bar) {
    const part = most > 0 ? Math.max(0, Math.min(1, Number(value) / most)) : 0;
    return <span class="barred"><span class="bar" style={{ width: `${part * 100}%` }} /><span class="over">{shown}</span></span>;
  }
  if (column.format === "id") return <code title={String(value)}>{shown}</code>;
  return shown;
}

// Table draws rows under sortable heads. t: {columns, rows, most, summary, sort,
// onSort, total, offset, page, onPage, onPick, selected, onDrill, caption}
export function Table(t) {
  const from = t.total ? t.offset + 1 : 0, to = Math.min(t.offset + t.page, t.total);
  return (
    <div class="tablebox">
      <div class="scroll" tabIndex={0} role="region" aria-label={t.caption}>
        <table>
          <caption class="hidden">{t.caption}</caption>
          <thead>
            <tr>{t.columns.map((c) => <Head key={c.name} column={c} sort={t.sort} onSort={t.onSort} />)}{t.onDrill && <th><span class="hidden">Drill down</span></th>}</tr>
          </thead>
          <tbody>
            {t.rows.map((row, i) => (
              <tr key={t.offset + i} class={t.marked && t.selected(row) ? "on" : t.onPick ? "can" : ""} onClick={t.onPick && ((e) => { if (!e.target.closest("button")) t.onPick(row, e.ctrlKey || e.metaKey || e.shiftKey); })}>
                {t.columns.map((c) => (
                  <td key={c.name} class={isNumber(c) ? "number" : ""} data-value={row[c.name] ?? ""}>
                    {t.onPick && c.name === t.pickColumn
                      ? <button type="button" class="pick" title={text(row[c.name], { ...c, format: "" })} aria-pressed={t.marked && t.selected(row)} onClick={(e) => t.onPick(row, e.ctrlKey || e.metaKey || e.shiftKey)}><Cell column={c} value={row[c.name]} most={t.most?.[c.name]} currency={t.currency} colors={t.colors} /></button>
                      : <Cell column={c} value={row[c.name]} most={t.most?.[c.name]} currency={t.currency} colors={t.colors} />}
                  </td>
                ))}
                {t.onDrill && <td class="end"><button type="button" class="small" aria-label={`Go down into ${text(row[t.pickColumn], t.columns.find((c) => c.name === t.pickColumn))}`} onClick={() => t.onDrill(row)}>▾</button></td>}
              </tr>
            ))}
          </tbody>
          {t.summary && (
            <tfoot>
              <tr>{t.columns.map((c, i) => <td key={c.name} class={isNumber(c) ? "number" : ""} data-value={t.summary[c.name] ?? ""}>{i === 0 ? "All" : c.name in t.summary ? text(t.summary[c.name], c, t.currency) : ""}</td>)}{t.onDrill && <td />}</tr>
            </tfoot>
          )}
        </table>
      </div>
      <nav class="pages" aria-label={`Pages of ${t.caption}`}>
        <button type="button" class="small" disabled={t.offset === 0} aria-label="First page" onClick={() => t.onPage(0)}>«</button>
        <button type="button" class="small" disabled={t.offset === 0} aria-label="Page before" onClick={() => t.onPage(Math.max(0, t.offset - t.page))}>‹</button>
        <span>{t.total ? `${count(from)}–${count(to)} of ${count(t.total)}` : "none"}</span>
        <button type="button" class="small" disabled={to >= t.total} aria-label="Next page" onClick={() => t.onPage(t.offset + t.page)}>›</button>
        <button type="button" class="small" disabled={to >= t.total} aria-label="Last page" onClick={() => t.onPage(Math.floor((t.total - 1) / t.page) * t.page)}>»</button>
      </nav>
    </div>
  );
}

function Head({ column, sort, onSort }) {
  const [name, way] = (sort || "").split(" ");
  const on = name === column.name;
  const next = on ? (way === "desc" ? column.name : "") : column.measure || isNumber(column) ? `${column.name} desc` : column.name;
  return (
    <th class={isNumber(column) ? "number" : ""} aria-sort={on ? (way === "desc" ? "descending" : "ascending") : "none"}>
      <button type="button" class="head" onClick={() => onSort(on && way !== "desc" && !isNumber(column) ? `${column.name} desc` : next)}>
        {column.label}{on ? (way === "desc" ? " ↓" : " ↑") : ""}
      </button>
    </th>
  );
}
