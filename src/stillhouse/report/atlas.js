// The map of the embedding: a depth at a time, one group alone, and the image under the pointer.
(() => {
  const atlas = JSON.parse(document.getElementById("atlas").textContent);
  const map = document.getElementById("map-0");
  const tip = document.querySelector(".tip");
  const [tile, name, kind] = tip.children;
  const rows = Math.ceil(atlas.names.length / atlas.columns);
  const layers = [...document.querySelectorAll("[data-layer]")];
  const keys = [...document.querySelectorAll("[data-group]")];
  const list = document.getElementById("map-class");
  let layer = layers.findIndex((button) => button.getAttribute("aria-pressed") === "true");
  let alone = -1;

  const place = (coordinate) =>
    map.data.map((group) => group.customdata.map((image) => atlas.points[layer][2 * image + coordinate] / 1000));
  const show = () => {
    if (!map.data) return;
    const opacity = map.data.map((_, group) => (alone < 0 || alone === group ? 0.85 : 0.07));
    Plotly.restyle(map, { x: place(0), y: place(1), "marker.opacity": opacity });
    layers.forEach((button, number) => button.setAttribute("aria-pressed", String(number === layer)));
    keys.forEach((button, number) => button.setAttribute("aria-pressed", String(number === alone)));
    map.setAttribute("aria-label", `Map of ${atlas.names.length} test images at block ${atlas.blocks[layer]}`);
  };
  layers.forEach((button, number) => button.addEventListener("click", () => { layer = number; show(); }));
  keys.forEach((button, number) =>
    button.addEventListener("click", () => { alone = alone === number ? -1 : number; show(); }));
  list?.addEventListener("change", () => { alone = Number(list.value); show(); });

  const point = ({ points, event }) => {
    const image = points[0].customdata;
    const [height, width] = atlas.shapes[image];
    const across = (100 * (image % atlas.columns)) / Math.max(1, atlas.columns - 1);
    const down = (100 * Math.floor(image / atlas.columns)) / Math.max(1, rows - 1);
    tile.style.backgroundPosition = `${across}% ${down}%`;
    tile.style.aspectRatio = `${width} / ${height}`;
    name.textContent = atlas.classes[image] || atlas.names[image];
    kind.textContent = atlas.classes[image] ? atlas.names[image] : "";
    tip.hidden = false;
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(8, Math.min(event.clientX + 16, room))}px`;
    tip.style.top = `${Math.max(8, Math.min(event.clientY + 16, window.innerHeight - tip.offsetHeight - 8))}px`;
  };
  map.addEventListener("drawn", () => {
    map.on("plotly_hover", point);
    map.on("plotly_click", point);
    map.on("plotly_unhover", () => { tip.hidden = true; });
  }, { once: true });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
})();
