"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);

  // Causes: a filter by text, kind and level.
  const causes = [...document.querySelectorAll("article.cause")];
  const filters = ["filter-text", "filter-kind", "filter-level"].map(byId);
  const applyFilters = () => {
    const [text, kind, level] = filters.map((field) => field.value.trim().toLowerCase());
    let shown = 0;
    for (const cause of causes) {
      const fits =
        (!text || cause.textContent.toLowerCase().includes(text)) &&
        (!kind || cause.dataset.kind === kind) &&
        (!level || cause.dataset.level === level);
      cause.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    byId("filter-count").textContent = `${shown} shown`;
  };
  if (causes.length) for (const field of filters) field.addEventListener("input", applyFilters);

  // Transfers: one canvas a side, both with the same view. Only what is visible is drawn.
  const holder = byId("timelines");
  if (!holder) return;
  const LANE = 26, TOP = 20, LEFT = 110, PAGE = 300;
  const detail = byId("timeline-detail"), table = byId("timeline-table");
  let charts = [], view = { from: 0, to: 1 }, selected = null;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const length = () => Math.max(1, ...charts.map((chart) => chart.line.length));

  const firstAt = (items, position) => {
    let low = 0, high = items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (items[middle][0] < position) low = middle + 1; else high = middle;
    }
    return low;
  };

  const draw = (chart) => {
    const { canvas, line } = chart, ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth, height = TOP + LANE * Math.max(1, line.lanes.length) + 4;
    canvas.style.height = `${height}px`;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "11px system-ui, sans-serif";
    const scale = (width - LEFT) / (view.to - view.from);
    const x = (position) => LEFT + (position - view.from) * scale;
    const y = (lane) => TOP + lane * LANE;
    pen.strokeStyle = colour("line");
    line.lanes.forEach((name, lane) => {
      pen.fillStyle = colour("fg");
      pen.fillText(name.slice(0, 18), 4, y(lane) + 16);
      pen.strokeRect(LEFT, y(lane), width - LEFT, LANE);
    });
    pen.save();
    pen.beginPath();
    pen.rect(LEFT, 0, width - LEFT, height);
    pen.clip();
    pen.fillStyle = colour("soft");
    let free = -1e9;
    for (const [position, name] of line.steps) {
      const at = x(position);
      if (at < LEFT - 200 || at > width) continue;
      pen.fillRect(at, TOP - 6, 1, height);
      if (at > free) { pen.fillText(name, at + 2, 12); free = at + pen.measureText(name).width + 8; }
    }
    // Where several bars fall on one pixel of a lane, one is drawn.
    const find = byId("timeline-find").value.toLowerCase(), last = {};
    const wide = Math.max(1, scale - (scale > 3 ? 1 : 0));
    const start = firstAt(line.bars, view.from - 1);
    for (let index = start; index < line.bars.length && line.bars[index][0] <= view.to; index += 1) {
      const [position, lane, kind, label] = line.bars[index];
      const marked = find && label.toLowerCase().includes(find);
      const pixel = Math.floor(x(position));
      if (last[lane] === pixel && !marked) continue;
      last[lane] = pixel;
      const low = kind === "record" || kind === "wait" ? 8 : 3;
      pen.globalAlpha = !find || marked ? 1 : 0.25;
      pen.fillStyle = colour(kind === "host" ? "hostev" : kind);
      pen.fillRect(x(position), y(lane) + low, wide, LANE - 2 * low);
    }
    pen.globalAlpha = 0.7;
    pen.strokeStyle = colour("record");
    let drawn = 0;
    for (const [from, fromLane, to, toLane] of line.edges) {
      if (to < view.from || from > view.to || fromLane === toLane) continue;
      if ((drawn += 1) > 2000) break;
      pen.beginPath();
      pen.moveTo(x(from) + wide / 2, y(fromLane) + LANE / 2);
      pen.lineTo(x(to) + wide / 2, y(toLane) + LANE / 2);
      pen.stroke();
    }
    pen.globalAlpha = 1;
    if (selected && selected.chart === chart) {
      const [position, lane] = line.bars[selected.index];
      pen.strokeStyle = colour("fg");
      pen.lineWidth = 2;
      pen.strokeRect(x(position) - 1, y(lane) + 1, wide + 2, LANE - 2);
    }
    pen.restore();
  };

  let queued = false;
  const drawAll = () => {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => { queued = false; charts.forEach(draw); });
  };
  const look = (from, to) => {
    const span = Math.min(Math.max(to - from, 8), length());
    const start = Math.min(Math.max(from, 0), Math.max(0, length() - span));
    view = { from: start, to: start + span };
    drawAll();
  };
  const zoom = (factor, centre = (view.from + view.to) / 2) =>
    look(centre - (centre - view.from) * factor, centre + (view.to - centre) * factor);
  const select = (chart, index) => {
    if (index < 0 || index >= chart.line.bars.length) return;
    selected = { chart, index };
    const [position, lane, , label] = chart.line.bars[index];
    detail.textContent = `${chart.title}, event ${position}, ${chart.line.lanes[lane]}: ${label}`;
    if (position < view.from || position >= view.to) look(position - (view.to - view.from) / 2, position + (view.to - view.from) / 2);
    drawAll();
  };
  const nearest = (chart, event) => {
    const box = chart.canvas.getBoundingClientRect();
    const position = view.from + ((event.clientX - box.left - LEFT) / (box.width - LEFT)) * (view.to - view.from);
    const lane = Math.floor((event.clientY - box.top - TOP) / LANE);
    const reach = Math.max(1, ((view.to - view.from) / box.width) * 4);
    let best = -1, distance = Infinity;
    for (let index = firstAt(chart.line.bars, position - reach); index < chart.line.bars.length; index += 1) {
      const bar = chart.line.bars[index];
      if (bar[0] > position + reach) break;
      const away = Math.abs(bar[0] + 0.5 - position);
      if (bar[1] === lane && away < distance) { best = index; distance = away; }
    }
    return best;
  };

  const attach = (chart) => {
    const { canvas } = chart;
    let drag = null;
    canvas.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, ...view }; canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointerup", () => { drag = null; });
    canvas.addEventListener("pointermove", (event) => {
      if (!drag) { const found = nearest(chart, event); if (found >= 0) select(chart, found); return; }
      const moved = ((drag.x - event.clientX) / (canvas.clientWidth - LEFT)) * (drag.to - drag.from);
      look(drag.from + moved, drag.to + moved);
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      zoom(event.deltaY > 0 ? 1.25 : 0.8, view.from + ((event.clientX - box.left - LEFT) / (box.width - LEFT)) * (view.to - view.from));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const step = (view.to - view.from) / 10;
      const at = selected && selected.chart === chart ? selected.index : firstAt(chart.line.bars, view.from) - 1;
      const actions = {
        ArrowLeft: () => look(view.from - step, view.to - step),
        ArrowRight: () => look(view.from + step, view.to + step),
        "+": () => zoom(0.8), "=": () => zoom(0.8), "-": () => zoom(1.25),
        Home: () => look(0, length()),
        "]": () => select(chart, at + 1), "[": () => select(chart, Math.max(0, at - 1)),
      };
      if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
    });
  };

  const fillTable = (number) => {
    const body = table.querySelector("div");
    body.replaceChildren();
    for (const chart of charts) {
      const grid = document.createElement("table");
      const caption = grid.createCaption();
      caption.textContent = `${chart.title}, ${Math.min(number, chart.line.bars.length)} of ${chart.line.bars.length} events`;
      for (const [position, lane, , label] of chart.line.bars.slice(0, number)) {
        const row = grid.insertRow();
        for (const text of [position, chart.line.lanes[lane], label]) row.insertCell().textContent = text;
      }
      body.append(grid);
    }
    if (charts.some((chart) => chart.line.bars.length > number)) {
      const more = document.createElement("button");
      more.type = "button";
      more.textContent = `Show ${PAGE} more`;
      more.addEventListener("click", () => fillTable(number + PAGE));
      body.append(more);
    }
  };

  const show = (name) => {
    selected = null;
    holder.replaceChildren();
    charts = data.timelines[name].map(({ title, line }) => {
      const heading = document.createElement("h3");
      heading.textContent = `${title}: ${line.length} events`;
      const canvas = document.createElement("canvas");
      canvas.tabIndex = 0;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `Transfers of ${title}, ${line.length} events in lanes ${line.lanes.join(", ")}. The table below has the same events.`);
      holder.append(heading, canvas);
      const chart = { title, line, canvas };
      attach(chart);
      return chart;
    });
    look(0, length());
    if (table.open) fillTable(PAGE); else table.querySelector("div").replaceChildren();
  };
  table.addEventListener("toggle", () => { if (table.open) fillTable(PAGE); });
  byId("timeline-scenario").addEventListener("input", (event) => show(event.target.value));
  byId("timeline-find").addEventListener("input", drawAll);
  window.addEventListener("resize", drawAll);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  show(byId("timeline-scenario").value);
})();
