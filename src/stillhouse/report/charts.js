// Draws every chart; colors are named by variables of the style sheet, so that light and dark share one page.
(() => {
  const text = document.getElementById("charts").textContent;
  const style = getComputedStyle(document.documentElement);
  // "--name" is that variable, "--name 26" the same color with this opacity in hexadecimal
  const colored = (value) => {
    const [name, opacity = ""] = value.split(" ");
    return style.getPropertyValue(name).trim() + opacity;
  };
  const filled = (key, value) => {
    if (key === "colorscale") return value.map(([at, color]) => [at, colored(color)]);
    return /color$/i.test(key) && typeof value === "string" && value.startsWith("--") ? colored(value) : value;
  };
  const charts = () => JSON.parse(text, filled);
  const drawn = new Set();
  const draw = (ids) => {
    const all = charts();
    for (const id of ids) {
      Plotly.react(id, all[id].data, all[id].layout, { displayModeBar: false, responsive: true });
      if (!drawn.has(id)) document.getElementById(id).dispatchEvent(new Event("drawn"));
      drawn.add(id);
    }
  };
  // a chart is drawn when it comes near, so that a long page opens at once
  const near = new IntersectionObserver((places) => {
    const ids = places.filter((place) => place.isIntersecting).map((place) => place.target.id);
    ids.forEach((id) => near.unobserve(document.getElementById(id)));
    draw(ids);
  }, { rootMargin: "800px" });
  const ids = Object.keys(JSON.parse(text));
  ids.forEach((id) => near.observe(document.getElementById(id)));
  window.addEventListener("beforeprint", () => draw(ids.filter((id) => !drawn.has(id))));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw([...drawn]));
})();
