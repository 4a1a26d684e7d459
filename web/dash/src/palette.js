// Colors by name, for dashboards' files, in light and dark.

const light = {
  gold: "#c99700", violet: "#8250df", lightblue: "#4aa8e0", grey: "#8a94a3", pink: "#e0559b", slate: "#51647d",
  red: "#cf3a32", orange: "#dd7b16", green: "#2d9a5f", blue: "#3a76d8", teal: "#1f9e9e", brown: "#9a6a3c",
};
const dark = {
  gold: "#e3b93c", violet: "#a98bff", lightblue: "#6cc3f5", grey: "#8d98a8", pink: "#f57fbb", slate: "#8fa6c4",
  red: "#f0655c", orange: "#f39a45", green: "#54c287", blue: "#6fa4ff", teal: "#46c4c4", brown: "#c59a6d",
};
const series = ["blue", "orange", "green", "violet", "pink", "teal", "gold", "red", "lightblue", "brown", "slate"];

const system = matchMedia("(prefers-color-scheme: dark)");
const still = matchMedia("(prefers-reduced-motion: reduce)");

// onTheme calls f whenever the system turns dark or light.
export function onTheme(f) {
  system.addEventListener("change", f);
  return () => system.removeEventListener("change", f);
}

// palette gives all that a chart draws with.
export function palette() {
  const css = getComputedStyle(document.documentElement);
  const v = (name) => css.getPropertyValue(name).trim();
  const named = system.matches ? dark : light;
  return {
    dark: system.matches, still: still.matches, named, ink: v("--ink"), soft: v("--soft"), line: v("--line"), card: v("--card"), page: v("--page"), accent: v("--accent"),
    land: v("--land"), context: v("--context"),
    // of: the color of a value; by its column's file, else by its place.
    of(column, value, place) {
      if (value === "Other") return named.grey;
      const name = column?.colors?.[value];
      return named[name] || named[series[place % series.length]];
    },
    // heat: from calm over neutral to hot, t in 0..1.
    heat(t) { return mix(t < .5 ? [named.blue, named.grey] : [named.grey, named.red], t < .5 ? t * 2 : t * 2 - 1); },
    score(t) { return mix(t < .5 ? [named.red, named.gold] : [named.gold, named.green], t < .5 ? t * 2 : t * 2 - 1); },
  };
}

function mix([a, b], t) {
  const part = (i) => Math.round(parseInt(a.slice(i, i + 2), 16) * (1 - t) + parseInt(b.slice(i, i + 2), 16) * t);
  return `rgb(${part(1)},${part(3)},${part(5)})`;
}
