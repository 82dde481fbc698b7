// The components of test_react.py.
import { createElement as h, StrictMode, useState } from "react";
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

const components = { Prices, Answer };

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
