// The components of test_react.py.
import { Activity, createElement as h, StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { renderToString } from "react-dom/server.browser";
import { useEvents, useRun } from "../../js/src/react.ts";

function Prices({ url, mark }) {
  const [prices, setPrices] = useState([]);
  const { state, error } = useEvents(url, { price: (e) => setPrices((known) => [...known, `${mark}${e.data.value}`]) });
  return h("p", null, `${state} ${error?.status ?? "-"} ${prices.join()}`);
}

function Answer({ remember }) {
  const { text, state, end, error, start, stop } = useRun("/answers", { remember, headers: { "content-type": "text/plain" } });
  globalThis.answer = { start, stop };
  return h("p", null, `${state} ${end?.reason ?? "-"} ${error?.status ?? "-"} ${text}`);
}

// A button as in docs/browser.md.
function Button() {
  const { state, start } = useRun("/answers");
  const busy = state === "connecting" || state === "open";
  return h("button", { disabled: busy, onClick: () => start("why?") }, state);
}

// Handlers for events of these names.
function Named({ url, names, options }) {
  const [seen, setSeen] = useState([]);
  const note = (name) => ({ data }) => setSeen((known) => [...known, `${name} ${data.value ?? data.member}`]);
  const { state } = useEvents(url, Object.fromEntries(names.map((name) => [name, note(name)])), options);
  return h("p", null, `${state} ${seen.join()}`);
}

// A run in a part of a page that may be hidden.
function Hidden({ hidden, ...props }) {
  return h(Activity, { mode: hidden ? "hidden" : "visible" }, h(Answer, props));
}

const components = { Prices, Answer, Button, Named, Hidden };

export function mount(name, props) {
  const place = document.body.appendChild(document.createElement("div"));
  const root = createRoot(place);
  const show = (props) => root.render(h(StrictMode, null, h(components[name], props)));
  show(props);
  return {
    show,
    text: () => place.textContent,
    unmount() {
      root.unmount();
      place.remove();
    },
  };
}

export const html = (name, props) => renderToString(h(components[name], props));
