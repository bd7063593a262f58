"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const by = (id) => document.getElementById(id);
  const node = (name, attributes, text) => {
    const made = document.createElementNS(SVG, name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const shown = (value) => {
    const size = Math.abs(value);
    if (size && (size >= 1e6 || size < 1e-4)) return value.toExponential(2);
    return String(Number(value.toPrecision(4)));
  };

  // Rows that are pointed at, or hold the focus, stand out everywhere.
  let lit = null;
  const mark = () => {
    document.body.classList.toggle("lighting", lit !== null);
    for (const one of document.querySelectorAll("[data-row]")) one.classList.toggle("lit", one.dataset.row === lit);
  };
  const light = (event) => {
    const found = event.target.closest && event.target.closest("[data-row]");
    lit = found && !found.matches("article") ? found.dataset.row : null;
    mark();
  };
  document.addEventListener("pointerover", light);
  document.addEventListener("focusin", light);

  if (!by("data")) return;
  const data = JSON.parse(by("data").textContent);
  const hidden = new Set();

  const ticks = (low, high, most) => {
    const raw = (high - low) / most;
    const power = Math.pow(10, Math.floor(Math.log10(raw)));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
    const found = [];
    for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i++) found.push(i * step);
    return found;
  };
  const decades = (low, high) => {
    const found = [];
    for (let i = Math.ceil(low); i <= Math.floor(high); i++) found.push(i);
    return found.length > 1 ? found : [low, high];
  };

  const curvesOf = (metric) =>
    data.runs.flatMap((run) =>
      run.curves.filter((one) => one[0] === metric).map((one) => ({
        row: run.row, seed: run.seed, steps: run.steps[one[1]], values: one[2],
      })));

  const range = (numbers) => {
    let low = Infinity, high = -Infinity;
    for (const one of numbers) {
      if (one < low) low = one;
      if (one > high) high = one;
    }
    if (low > high) return [0, 1];
    return low < high ? [low, high] : [low - Math.max(Math.abs(low), 1) * 0.05, high + Math.max(Math.abs(high), 1) * 0.05];
  };

  const draw = () => {
    const metric = Number(by("metric").value), log = by("log").checked;
    const place = by("chart"), wide = place.clientWidth, tall = place.clientHeight;
    const curves = curvesOf(metric).filter((one) => !hidden.has(one.row)).map((one) => {
      const kept = one.values.map((value, i) => [one.steps[i], log ? Math.log10(value) : value]);
      return { ...one, points: kept.filter((point) => Number.isFinite(point[1])) };
    });
    const [left, right] = range(curves.flatMap((one) => one.steps));
    let [low, high] = range(curves.flatMap((one) => one.points.map((point) => point[1])));
    const margin = (high - low) * 0.04;
    low -= margin; high += margin;
    const box = { x: 64, y: 28, w: Math.max(wide - 80, 50), h: Math.max(tall - 64, 50) };
    const x = (step) => box.x + (box.w * (step - left)) / (right - left);
    const y = (value) => box.y + box.h * (1 - (value - low) / (high - low));
    const name = data.metrics[metric];
    const svg = node("svg", { viewBox: `0 0 ${wide} ${tall}`, role: "img", "aria-label": `Curves of ${name}; the values are in the table below` });
    for (const tick of log ? decades(low, high) : ticks(low, high, 5)) {
      svg.append(node("line", { class: "grid", x1: box.x, x2: box.x + box.w, y1: y(tick), y2: y(tick) }));
      svg.append(node("text", { class: "tick", x: box.x - 8, y: y(tick) + 4, "text-anchor": "end" }, shown(log ? Math.pow(10, tick) : tick)));
    }
    for (const tick of ticks(left, right, Math.max(2, Math.floor(box.w / 110)))) {
      svg.append(node("text", { class: "tick", x: x(tick), y: box.y + box.h + 18, "text-anchor": x(tick) > box.x + box.w - 24 ? "end" : "middle" }, tick.toLocaleString("en")));
    }
    svg.append(node("text", { class: "name", x: box.x, y: 17 }, name));
    svg.append(node("text", { class: "name", x: box.x + box.w, y: tall - 4, "text-anchor": "end" }, "step"));
    for (const one of curves) {
      const path = one.points.map((point, i) => `${i ? "L" : "M"}${x(point[0]).toFixed(1)} ${y(point[1]).toFixed(1)}`).join("");
      const curve = node("g", { class: "curve", "data-row": one.row, stroke: data.rows[one.row].colour, "stroke-dasharray": data.rows[one.row].dash });
      curve.append(node("title", {}, `${data.rows[one.row].label}, seed ${one.seed}`));
      curve.append(node("path", { d: path || "M0 0" }));
      if (one.points.length < 40) {
        for (const point of one.points) curve.append(node("circle", { cx: x(point[0]), cy: y(point[1]), r: 2.5, fill: data.rows[one.row].colour }));
      }
      svg.append(curve);
    }
    if (!curves.length) svg.append(node("text", { class: "tick", x: wide / 2, y: tall / 2, "text-anchor": "middle" }, "no curves"));
    place.replaceChildren(svg);
    list(metric);
    mark();
  };

  const list = (metric) => {
    const rows = curvesOf(metric).map((one) => {
      const [low, high] = [Math.min(...one.values), Math.max(...one.values)];
      const line = document.createElement("tr");
      line.dataset.row = one.row;
      const head = document.createElement("th");
      head.scope = "row";
      head.className = "label";
      head.textContent = data.rows[one.row].label;
      line.append(head);
      const last = one.values[one.values.length - 1];
      const cells = [one.seed, shown(last), shown(low), one.steps[one.values.indexOf(low)].toLocaleString("en"), shown(high), one.steps[one.values.indexOf(high)].toLocaleString("en")];
      for (const text of cells) {
        const cell = document.createElement("td");
        cell.className = "n";
        cell.textContent = text;
        line.append(cell);
      }
      return line;
    });
    by("values").replaceChildren(...rows);
  };

  data.rows.forEach((row, place) => {
    if (!data.runs.some((run) => run.row === place && run.curves.length)) return;
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.row = place;
    button.setAttribute("aria-pressed", "true");
    const swatch = node("svg", { class: "swatch", width: 12, height: 12, "aria-hidden": "true" });
    swatch.append(node("circle", { cx: 6, cy: 6, r: 5, fill: row.colour }));
    const label = document.createElement("span");
    label.className = "label";
    label.textContent = row.label;
    button.append(swatch, label);
    button.addEventListener("click", () => {
      if (hidden.has(place)) hidden.delete(place); else hidden.add(place);
      button.setAttribute("aria-pressed", String(!hidden.has(place)));
      draw();
    });
    by("legend").append(button);
  });
  by("metric").addEventListener("change", draw);
  by("log").addEventListener("change", draw);
  new ResizeObserver(draw).observe(by("chart"));
})();
