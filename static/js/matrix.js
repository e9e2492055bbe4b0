/* Draws #matrix from the cells that its data-source answers: a heat map whose cells lead to
 * their findings. Colours are custom properties, so that it follows the theme. */
(() => {
  const CELL = 22; // pixels at least for a class, up to LARGEST in all
  const LARGEST = 1100;
  const BAR = 76; // pixels for the bar of colours and its words
  const NUMBERED = 20; // classes up to which cells have their number in them
  const PALER = 0.98; // share of the changes below the strongest colour, which the others have

  const property = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  // Plotly reads names as a kind of HTML, links included.
  const plain = (name) => name.replace(/[&<>]/g, (character) => `&#${character.charCodeAt(0)};`);
  const cut = (name, most) => (name.length > most ? `${name.slice(0, most - 1)}…` : name);
  const count = (n) => n.toLocaleString("en");
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  // Counts differ by orders of magnitude: the root lets one error be seen beside a thousand.
  const root = (value) => Math.sign(value) * Math.sqrt(Math.abs(value));
  const square = (value) => Math.sign(value) * value * value;

  const share = (part, whole) => (whole ? part / whole : 0);

  const numbersIn = (text, cells) => {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const kind = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array }[bytes.length / cells] ?? Uint8Array;
    return new kind(bytes.buffer);
  };

  /* The cells of each row, as the API gives them when they are not packed. */
  const unpack = (data) => {
    const { ends, ...packed } = data.packed;
    for (const [name, text] of Object.entries(packed)) {
      const all = text === null ? null : numbersIn(text, ends.at(-1));
      data[name] = all && ends.map((end, row) => all.subarray(row ? ends[row - 1] : 0, end));
    }
    return data;
  };

  /* One object for each cell that is not empty. */
  const cellsOf = (data, scale) => {
    const cells = new Map();
    const size = data.classes.length;
    const figure = (n, row, column, support, predicted) => {
      if (scale === "actual") return share(n, support[row]);
      return scale === "predicted" ? share(n, predicted[column]) : n;
    };
    data.columns.forEach((columns, row) =>
      columns.forEach((column, at) => {
        const now = data.counts[row][at];
        const before = data.before ? data.before[row][at] : 0;
        let value = figure(now, row, column, data.support, data.predicted);
        if (data.before) value -= figure(before, row, column, data.support_before, data.predicted_before);
        cells.set(row * size + column, { row, column, now, before, value });
      }),
    );
    return cells;
  };

  const grid = (cells, size, keep) => {
    const z = Array.from({ length: size }, () => new Float32Array(size).fill(NaN));
    for (const cell of cells.values()) if (keep(cell)) z[cell.row][cell.column] = root(cell.value);
    return z;
  };

  const words = (value, scale, signed) => {
    const text = scale === "counts" ? count(Math.abs(value)) : percent(Math.abs(value));
    if (!signed || !value) return text;
    return `${value > 0 ? "+" : "−"}${text}`;
  };

  /* A few large changes must not make all the small ones as pale as the page. */
  const strongest = (cells) => {
    const sizes = Float64Array.from(cells, (cell) => Math.abs(cell.value)).filter(Boolean).sort();
    return sizes.length ? sizes[Math.ceil(PALER * sizes.length) - 1] : 1;
  };

  const bar = (most, scale, signed, title) => {
    const steps = signed ? [-1, -0.5, 0, 0.5, 1] : [0.25, 0.5, 0.75, 1];
    const whole = (value) => (scale === "counts" ? Math.round(value) : value);
    const ticks = new Map(steps.map((step) => [whole(square(step * most)), 0]));
    const values = [...ticks.keys()].filter((value) => signed || value > 0);
    return {
      orientation: "h",
      x: 0,
      xanchor: "left",
      y: 1,
      yanchor: "bottom",
      len: 0.6,
      thickness: 10,
      ypad: 14, // its numbers are below it
      outlinewidth: 0,
      tickvals: values.map(root),
      ticktext: values.map((value) => words(value, scale, signed)),
      title: { text: title, side: "top" },
    };
  };

  const trace = (z, names, more) => ({
    type: "heatmap",
    z,
    x: names,
    y: names,
    hoverinfo: "none",
    hoverongaps: false,
    ...more,
  });

  const numbers = (z, cells, size, scale, signed) => {
    if (size > NUMBERED) return {};
    const text = z.map((line, row) =>
      Array.from(line, (value, column) =>
        Number.isNaN(value) ? "" : words(cells.get(row * size + column).value, scale, signed).replace(" %", ""),
      ),
    );
    return { text, texttemplate: "%{text}" };
  };

  const tracesOf = (data, cells, scale, names) => {
    const size = names.length;
    const errors = [...cells.values()].filter((cell) => cell.row !== cell.column);
    const largest = (some) => root(some.reduce((top, cell) => Math.max(top, Math.abs(cell.value)), 0)) || 1;
    const unit = scale === "counts" ? "images" : `share of the ${scale} class`;
    if (data.before) {
      const z = grid(cells, size, () => true);
      const colours = ["matrix-fewer", "surface", "matrix-more"].map((name, at) => [at / 2, property(name)]);
      const end = root(strongest(errors));
      const colorbar = bar(end, scale, true, `fewer · ${unit} · more`);
      if (end < largest(errors)) {
        colorbar.ticktext[0] = `≤ ${colorbar.ticktext[0]}`;
        colorbar.ticktext.push(`≥ ${colorbar.ticktext.pop()}`);
      }
      return [
        trace(z, names, { colorscale: colours, zmin: -end, zmax: end, colorbar, ...numbers(z, cells, size, scale, true) }),
      ];
    }
    const most = largest(errors);
    const from = (name) => [[0, property(`matrix-${name}low`)], [1, property(`matrix-${name}high`)]];
    const wrong = grid(cells, size, (cell) => cell.row !== cell.column);
    const right = grid(cells, size, (cell) => cell.row === cell.column);
    return [
      trace(right, names, { colorscale: from("right-"), zmin: 0, zmax: largest([...cells.values()]), showscale: false, ...numbers(right, cells, size, scale, false) }),
      trace(wrong, names, { colorscale: from(""), zmin: 0, zmax: most, colorbar: bar(most, scale, false, `errors, ${unit}`), ...numbers(wrong, cells, size, scale, false) }),
    ];
  };

  const axis = (title, names, isFixed) => ({
    type: "category",
    title: { text: title },
    labelalias: Object.fromEntries(names.map(([name, short]) => [name, short])),
    automargin: true,
    fixedrange: isFixed,
    linecolor: property("line"),
    showgrid: false,
    ticks: "",
    tickfont: { color: property("muted"), size: 11 },
    zeroline: false,
  });

  const layoutOf = (names, side, isFixed) => ({
    width: side,
    height: side + BAR,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: property("text") },
    margin: { t: 8, r: 12, b: 40, l: 40 },
    dragmode: isFixed ? false : "zoom",
    xaxis: { ...axis("predicted", names, isFixed), tickangle: -90 },
    yaxis: { ...axis("actual", names, isFixed), autorange: "reversed" },
  });

  const said = (data, cell) => {
    const pair = `${data.classes[cell.row]} → ${data.classes[cell.column]}`;
    const of = (n, sums) => `${count(n)} of ${count(sums[cell.row])} (${percent(share(n, sums[cell.row]))} of the actual class)`;
    const now = of(cell.now, data.support);
    return data.before ? `${pair}\nbefore ${of(cell.before, data.support_before)}\nnow ${now}` : `${pair}\n${now}`;
  };

  /* The findings of a cell: of the scan, or what the other one saw and this one does not. */
  const pageOf = (element, data, cell) => {
    if (cell.row === cell.column) return "";
    const page = cell.now ? element.dataset.findings : element.dataset.findingsBefore;
    return page && `${page}&true_label=${data.labels[cell.row]}&predicted_label=${data.labels[cell.column]}`;
  };

  const listen = (element, data, cells) => {
    const tip = document.getElementById("matrix-tip");
    const hovers = window.matchMedia("(hover: hover)").matches;
    const cellAt = (row, column) => cells.get(row * data.classes.length + column);
    const show = (cell, at) => {
      tip.textContent = said(data, cell);
      tip.hidden = false;
      const page = pageOf(element, data, cell);
      if (!hovers) {
        if (page) tip.append("\n", Object.assign(document.createElement("a"), { href: page, textContent: "Its findings" }));
        return;
      }
      tip.style.left = `${Math.min(at.clientX + 14, window.innerWidth - tip.offsetWidth - 8)}px`;
      tip.style.top = `${Math.min(at.clientY + 14, window.innerHeight - tip.offsetHeight - 8)}px`;
      element.classList.toggle("has-findings", Boolean(page));
    };
    element.on("plotly_hover", ({ points: [point], event }) => {
      const cell = cellAt(...(point.pointIndex ?? point.pointNumber));
      if (cell) show(cell, event);
    });
    element.on("plotly_unhover", () => {
      if (hovers) tip.hidden = true;
    });
    // Not plotly_click: it tells of what was hovered up to 50 ms before, another cell or none.
    element.addEventListener("click", (event) => {
      const area = event.target.closest(".nsewdrag")?.getBoundingClientRect();
      if (!area) return;
      const { xaxis, yaxis } = element._fullLayout;
      const cell = cellAt(Math.round(yaxis.p2c(event.clientY - area.top)), Math.round(xaxis.p2c(event.clientX - area.left)));
      if (!cell) return;
      const page = pageOf(element, data, cell);
      if (!hovers) show(cell, event);
      else if (page) window.location.assign(page);
    });
  };

  const start = async () => {
    const element = document.getElementById("matrix");
    const status = document.getElementById("matrix-status");
    status.textContent = "The cells are being loaded.";
    let data;
    try {
      const answer = await fetch(element.dataset.source, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      data = unpack(await answer.json());
    } catch (error) {
      status.textContent = `The map could not be loaded (${error.message}). The table has its largest cells; load the page again to see the map.`;
      return;
    }
    const scale = element.dataset.scale;
    const cells = cellsOf(data, scale);
    const names = data.classes.map((name) => [plain(name), plain(cut(name, 18))]);
    const isFixed = !window.matchMedia("(hover: hover)").matches;
    const draw = () => {
      const room = element.parentElement.clientWidth;
      const side = Math.max(Math.min(room, LARGEST, 0.75 * window.innerHeight), Math.min(names.length * CELL + 120, LARGEST));
      const traces = tracesOf(data, cells, scale, names.map(([name]) => name));
      return window.Plotly.react(element, traces, layoutOf(names, side, isFixed), { displayModeBar: false });
    };
    await draw();
    listen(element, data, cells);
    const click = isFixed ? "Tap a cell to see what it is." : "Click a cell to see its findings; drag to zoom in, double-click to zoom out.";
    status.textContent = click;
    document.addEventListener("themechange", draw);
    window.addEventListener("resize", draw);
  };

  document.addEventListener("DOMContentLoaded", start);
})();
