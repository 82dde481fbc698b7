// Light, dark, or as the system says: the button #theme of each page of newswire goes round the three. A plain script, so
// that it runs before the first paint. All tabs follow; canvases hear "themechange" on the document.
(() => {
  const KEY = "newswire.theme";
  const SVG = "http://www.w3.org/2000/svg";
  const THEMES = {
    auto: ["as the system says", "M12 3.5a8.5 8.5 0 1 0 0 17a8.5 8.5 0 1 0 0-17z", "M12 3.5a8.5 8.5 0 0 1 0 17z"],
    light: ["light", "M12 7.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9M12 2.5v1.5M12 20v1.5M2.5 12h1.5M20 12h1.5M5.3 5.3l1 1M17.7 17.7l1 1M5.3 18.7l1-1M17.7 6.3l1-1"],
    dark: ["dark", "M19.5 14.3A8 8 0 0 1 9.7 4.5a8 8 0 1 0 9.8 9.8z"],
  };
  const names = Object.keys(THEMES);
  const stored = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage is switched off: the choice lasts as long as the page
    }
  };
  let theme = "auto";

  function set(name) {
    theme = name in THEMES ? name : "auto";
    document.documentElement.dataset.theme = theme;
    show();
    document.dispatchEvent(new Event("themechange"));
  }

  function show() {
    const button = document.getElementById("theme");
    if (!button) return;
    const [words, ...paths] = THEMES[theme];
    button.title = `Colours: ${words}`;
    button.setAttribute("aria-label", button.title);
    const picture = document.createElementNS(SVG, "svg");
    picture.setAttribute("viewBox", "0 0 24 24");
    picture.setAttribute("aria-hidden", "true");
    paths.forEach((path, i) => {
      const line = picture.appendChild(document.createElementNS(SVG, "path"));
      line.setAttribute("d", path);
      if (i) line.setAttribute("fill", "currentColor"); // the second is a face, not a line
    });
    button.replaceChildren(picture);
  }

  set(stored());
  addEventListener("storage", ({ key, newValue }) => key === KEY && set(newValue));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("themechange")));
  document.addEventListener("DOMContentLoaded", () => {
    show();
    document.getElementById("theme")?.addEventListener("click", () => {
      set(names[(names.indexOf(theme) + 1) % names.length]);
      try {
        localStorage.setItem(KEY, theme);
      } catch {
        // not kept, then
      }
    });
  });
})();
