// Asking the instance, and hearing from it.

import { useEffect, useRef, useState } from "preact/hooks";

export class Failure extends Error {
  constructor(what, remedy, lost) { super(what); this.remedy = remedy; this.lost = lost; }
}

export async function ask(path, body, signal) {
  let response;
  try {
    response = await fetch(path, body === undefined ? { signal } : {
      method: "POST", signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw new Failure("The instance does not answer.", "It is asked again as soon as it does.", true);
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new Failure(answer?.error || `The instance answers ${response.status}.`, answer?.do || "");
  if (answer === null) throw new Failure("The answer broke off.", "It is asked again with the next step.");
  return answer;
}

// SILENCE is how long nothing may be heard: the instance gives a sign of life
// every 5 s.
const SILENCE = 12000;

// useLive follows the step that is served: {step, frozen, lost, paused, pause}.
export function useLive() {
  const [news, setNews] = useState({ step: null });
  const [lost, setLost] = useState(false);
  const [paused, pause] = useState(false);
  const held = useRef(null);
  const isPaused = useRef(false);
  isPaused.current = paused;
  useEffect(() => {
    let heard = Date.now(), source;
    const open = () => {
      source?.close();
      source = new EventSource("/api/live");
      source.addEventListener("step", (e) => {
        heard = Date.now();
        const now = JSON.parse(e.data);
        setLost(false);
        held.current = now;
        if (!isPaused.current) setNews((old) => (same(old, now) ? old : now));
      });
      source.onerror = () => setLost(true);
    };
    open();
    const watch = setInterval(() => {
      if (Date.now() - heard > SILENCE) { heard = Date.now(); setLost(true); open(); }
    }, 2000);
    return () => { clearInterval(watch); source.close(); };
  }, []);
  const toggle = () => {
    if (paused && held.current) setNews(held.current);
    pause(!paused);
  };
  return { ...news, lost, paused, toggle };
}

function same(a, b) { return a.step === b.step && a.manifest === b.manifest && a.frozen === b.frozen && a.error === b.error; }

// PACE is the least time between two refreshes of a panel; one that takes long
// is asked more rarely, so that watching costs at most a fifth of the time.
const PACE = 700;

// Refresher keeps the rows of one panel: it asks at once when the request
// changes, and not before its pace when only the step moves.
class Refresher {
  constructor(update) { this.update = update; this.took = 0; this.at = 0; }

  want(request, key, step) {
    if (key !== this.key) {
      this.request = request; this.key = key; this.step = step;
      this.now();
    } else if (step !== this.step) {
      this.step = step;
      this.soon();
    }
  }

  // now drops what is under way and asks.
  now() {
    this.stop();
    this.update((s) => ({ ...s, busy: true }));
    this.run();
  }

  // soon asks when it is time, with what is wanted then.
  soon() {
    if (this.abort) { this.again = true; return; }
    if (this.timer) return;
    this.timer = setTimeout(() => { this.timer = null; this.run(); }, Math.max(0, this.at + Math.max(PACE, this.took * 4) - Date.now()));
  }

  async run() {
    const abort = (this.abort = new AbortController());
    const key = this.key, begin = Date.now();
    try {
      const data = await ask("/api/dashboards/rows", this.request, abort.signal);
      if (this.abort !== abort) return;
      this.update({ data, key, busy: false });
    } catch (e) {
      if (this.abort !== abort) return;
      this.update((s) => ({ data: s.key === key ? s.data : undefined, key, error: e, busy: false }));
    }
    this.abort = null; this.at = Date.now(); this.took = this.at - begin;
    if (this.again) { this.again = false; this.soon(); }
  }

  stop() {
    this.abort?.abort();
    clearTimeout(this.timer);
    this.abort = this.timer = null; this.again = false;
  }
}

// useRows gives {data, error, busy, fresh, again} of a request; fresh: what is
// there answers it. Rows are asked for
// again with each step, but only while the panel can be seen.
export function useRows(request, step, lost, visible) {
  const [state, update] = useState({ busy: true });
  const ref = useRef(null);
  ref.current ??= new Refresher(update);
  const key = JSON.stringify(request);
  useEffect(() => { if (visible) ref.current.want(request, key, step); }, [key, step, visible]);
  useEffect(() => { if (!lost && state.error?.lost) ref.current.now(); }, [lost]);
  useEffect(() => () => ref.current.stop(), []);
  return { ...state, fresh: state.key === key && !state.busy, again: () => ref.current.now() };
}
