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
  const draw = () => {
    for (const [id, chart] of Object.entries(JSON.parse(text, filled))) {
      Plotly.react(id, chart.data, chart.layout, { displayModeBar: false, responsive: true });
    }
  };
  draw();
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
