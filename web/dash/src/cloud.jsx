import cloud from "d3-cloud";
import { useEffect, useRef, useState } from "preact/hooks";
import { usePalette, useWidth } from "./chart.jsx";
import { text } from "./format.js";

const FONT = "system-ui, sans-serif";

// tone colors a ratio: 1 is neutral, 4 times as much hot, a quarter calm.
export function tone(colors, ratio) {
  if (ratio === null || ratio === undefined || ratio <= 0) return colors.named.grey;
  return colors.heat(Math.min(1, Math.max(0, .5 + Math.log2(ratio) / 4)));
}

// Cloud draws words: the size is a measure, the color another one.
export function Cloud({ panel, columns, rows, currency, height, handle }) {
  const ref = useRef(null), width = useWidth(ref), colors = usePalette();
  const [words, set] = useState([]);
  const { word, size, color } = panel.encode;
  const key = JSON.stringify([rows.map((r) => [r[word], r[size]]), width, height]);
  useEffect(() => {
    if (!width) return;
    const most = Math.max(1, ...rows.map((r) => r[size])), least = Math.min(...rows.map((r) => r[size]));
    let layout;
    // Words that find no place are left out: smaller ones then, till most fit.
    const lay = (big, tries) => {
      const scale = (v) => 11 + (big - 11) * Math.sqrt((v - least) / Math.max(1, most - least));
      layout = cloud().size([width, height]).words(rows.map((row) => ({ text: String(row[word]), size: scale(row[size]), row })))
        .font(FONT).fontSize((d) => d.size).fontWeight(600).padding(2).rotate(0).random(chance())
        .on("end", (placed) => (tries > 0 && placed.length < rows.length * .95 ? lay(Math.max(13, big * .8), tries - 1) : set(placed)));
      layout.start();
    };
    lay(Math.min(64, width / 9), 5);
    return () => layout.stop();
  }, [key]);
  handle.current = { words, width, height, colors, font: FONT, tone: (row) => tone(colors, color ? row[color] : 1) };
  return (
    <div class="canvas" ref={ref}>
      <svg width={width} height={height} role="img" aria-label={`${panel.title}: ${rows.length} words. The button Data shows them as a table.`}>
        <g transform={`translate(${width / 2},${height / 2})`}>
          {words.map((w) => (
            <text key={w.text} text-anchor="middle" transform={`translate(${w.x},${w.y})`} font-size={w.size} fill={tone(colors, color ? w.row[color] : 1)}>
              {w.text}
              <title>{[size, color].filter(Boolean).map((n) => `${columns[n].label}: ${text(w.row[n], columns[n], currency)}`).join("\n")}</title>
            </text>
          ))}
        </g>
      </svg>
    </div>
  );
}

// chance is the same row of numbers each time: equal words lie equally.
function chance() {
  let n = 1;
  return () => (n = (n * 16807) % 2147483647) / 2147483647;
}
