// Numbers and dates in the reader's own format.

const locale = navigator.languages?.length ? [...navigator.languages] : [navigator.language];
const made = new Map();

function number(options) {
  const key = JSON.stringify(options);
  if (!made.has(key)) made.set(key, new Intl.NumberFormat(locale, options));
  return made.get(key);
}

function date(options) {
  const key = "d" + JSON.stringify(options);
  if (!made.has(key)) made.set(key, new Intl.DateTimeFormat(locale, { timeZone: "UTC", ...options }));
  return made.get(key);
}

// time reads YYYY-MM-DD[ HH:MM:SS[.fff]], which is UTC, or RFC 3339.
function time(text) {
  const iso = String(text).replace(" ", "T");
  return Date.parse(iso.length > 10 && !/(Z|[+-]\d\d:\d\d)$/.test(iso) ? iso + "Z" : iso);
}

// text gives a value as a column shows it. compact: for axes and small labels.
export function text(value, column, currency, compact = false) {
  if (value === null || value === undefined) return "–";
  if (column?.labels?.[value]) return column.labels[value];
  const small = compact ? { notation: "compact", maximumFractionDigits: 1 } : {};
  switch (column?.format) {
    case "integer": case "bar": return number({ maximumFractionDigits: 0, ...small }).format(value);
    case "decimal": return number({ maximumFractionDigits: 2, ...small }).format(value);
    case "days": return number({ maximumFractionDigits: 1, minimumFractionDigits: compact ? 0 : 1 }).format(value);
    case "ratio": return number({ maximumFractionDigits: 1 }).format(value) + "×";
    case "percent": return number({ style: "percent", maximumFractionDigits: compact ? 0 : 1 }).format(value);
    case "money":
      return currency ? number({ style: "currency", currency, ...(compact ? small : { minimumFractionDigits: 2 }) }).format(value)
        : number({ minimumFractionDigits: 2, maximumFractionDigits: 2, ...small }).format(value);
    case "month": {
      const at = Date.parse(String(value) + "-01");
      return Number.isNaN(at) ? String(value) : date({ month: "short", year: compact ? "2-digit" : "numeric" }).format(at);
    }
    case "date": return Number.isNaN(time(value)) ? String(value) : date({ dateStyle: "medium" }).format(time(value));
    case "datetime": return Number.isNaN(time(value)) ? String(value) : date({ dateStyle: "short", timeStyle: "short" }).format(time(value));
    case "id": return compact || String(value).length > 16 ? String(value).slice(0, 8) + "…" : String(value);
  }
  if (typeof value === "number") return number({ maximumFractionDigits: 2, ...small }).format(value);
  return String(value);
}

export function count(n) { return number({ maximumFractionDigits: 0 }).format(n); }

// isNumber tells columns that stand to the right.
export function isNumber(column) {
  return ["integer", "bar", "decimal", "days", "ratio", "percent", "money"].includes(column.format);
}
