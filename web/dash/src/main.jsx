import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { ask, useLive } from "./api.js";
import { Filters } from "./filters.jsx";
import { count } from "./format.js";
import { Panel } from "./panel.jsx";
import { Pipeline } from "./pipeline.jsx";
import { dashboardName, go, useChosen } from "./state.js";

function App() {
  const chosen = useChosen(), live = useLive();
  const { listing, error, again } = useListing(live);
  const phone = useNarrow();
  const pipeline = location.pathname === "/pipeline";
  const name = pipeline ? "" : dashboardName();
  const dashboard = listing?.dashboards.find((d) => d.name === name);
  useEffect(() => { document.title = `${pipeline ? "Pipeline · " : dashboard ? dashboard.title + " · " : ""}${listing ? listing.project + " · " : ""}Lockstep`; }, [dashboard, listing, pipeline]);
  return (
    <>
      <a class="skip" href="#main">To the panels</a>
      <header class="top">
        <a class="brand" href="/">Lockstep <span>{listing?.project}</span></a>
        <nav aria-label="Dashboards">
          {listing?.dashboards.map((d) => (
            <a key={d.name} href={`/dash/${d.name}`} aria-current={d.name === name ? "page" : undefined} onClick={(e) => { if (!e.ctrlKey && !e.metaKey && !e.shiftKey) { e.preventDefault(); go(d.name); scrollTo(0, 0); } }}>{d.title}</a>
          ))}
          <a href="/pipeline" aria-current={pipeline ? "page" : undefined}>Pipeline</a>
        </nav>
        <Live live={live} />
      </header>
      {live.lost && <p class="banner bad" role="alert">The connection is lost. What you see is of step {live.step === null ? "–" : count(live.step)}; it goes on by itself when the instance answers.</p>}
      {live.frozen && <p class="banner warn" role="status">{live.frozen}</p>}
      <main id="main">
        {listing?.problems.map((f) => <p key={f.File + f.Line + f.What} class="banner bad" role="alert">{f.File}{f.Line ? `:${f.Line}` : ""}: {f.What}{f.Do ? `; ${f.Do}` : ""}</p>)}
        {error && <p class="banner bad" role="alert">{error.message} {error.remedy} <button type="button" class="small" onClick={again}>Try again</button></p>}
        {dashboard && (
          <>
            <h1>{dashboard.title}</h1>
            {dashboard.text && <p class="lead">{dashboard.text}</p>}
            <Filters dashboard={dashboard} chosen={chosen} step={live.step} />
            {dashboard.rows.map((row, i) => (
              <div class="row" key={dashboard.name + i}>
                {row.panels.map((panel) => <Panel key={`${dashboard.name}.${panel.name}`} dashboard={dashboard} panel={panel} height={row.height - 90} chosen={chosen} live={live} phone={phone} />)}
              </div>
            ))}
          </>
        )}
        {pipeline && <Pipeline live={live} />}
        {listing && !dashboard && !pipeline && <p class="state">There is no dashboard “{name}”. {listing.dashboards.length > 0 ? "Choose one above." : "Write dashboards/NAME.yaml in the project."}</p>}
      </main>
    </>
  );
}

function Live({ live }) {
  const kind = live.lost ? "bad" : live.paused ? "warn" : "good";
  return (
    <div class="live">
      <span class={`pulse ${kind}`} role="status">{live.lost ? "no connection" : live.paused ? "paused" : "live"}{live.step !== null && live.step !== undefined ? ` · step ${count(live.step)}` : ""}</span>
      <button type="button" class="small" aria-pressed={live.paused} onClick={live.toggle}>Pause</button>
    </div>
  );
}

// RELOAD is how often the dashboards' files are looked at for changes.
const RELOAD = 3000;

function useListing(live) {
  const [state, update] = useState({});
  const [n, again] = useState(0);
  useEffect(() => {
    let last = "", stopped = false, timer;
    const load = async () => {
      try {
        const listing = await ask("/api/dashboards");
        const now = JSON.stringify(listing);
        if (now !== last && !stopped) update({ listing });
        last = now;
      } catch (e) {
        if (!stopped) update((s) => (s.listing ? s : { error: e }));
      }
      if (!stopped) timer = setTimeout(load, RELOAD);
    };
    load();
    return () => { stopped = true; clearTimeout(timer); };
  }, [n]);
  useEffect(() => { if (!live.lost && state.error) again((k) => k + 1); }, [live.lost]);
  return { ...state, again: () => again((k) => k + 1) };
}

function useNarrow() {
  const query = matchMedia("(max-width: 700px)");
  const [narrow, set] = useState(query.matches);
  useEffect(() => {
    const f = () => set(query.matches);
    query.addEventListener("change", f);
    return () => query.removeEventListener("change", f);
  }, []);
  return narrow;
}

const root = document.getElementById("app");
root.replaceChildren();
render(<App />, root);
