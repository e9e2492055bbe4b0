/* Draws every <div class="chart" data-figure="ID"> from the JSON script element ID:
 * {"traces": [{..., "color": "accent"}], "layout": {...}}. Colours are names of custom
 * properties, so that a chart follows the theme. */
(() => {
  const property = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  const axis = (given = {}) => ({
    automargin: true,
    gridcolor: property("line"),
    linecolor: property("line"),
    zerolinecolor: property("line"),
    tickfont: { color: property("muted") },
    ...given,
  });

  const layout = (given = {}) => ({
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: property("text") },
    margin: { t: 36, r: 16, b: 36, l: 48 },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    hovermode: "x unified",
    hoverlabel: { bgcolor: property("raised"), font: { color: property("text") } },
    ...given,
    xaxis: axis(given.xaxis),
    yaxis: axis(given.yaxis),
    ...(given.yaxis2 ? { yaxis2: axis(given.yaxis2) } : {}),
  });

  const trace = ({ color, ...rest }) => {
    if (!color) return rest;
    const value = property(color);
    return { ...rest, line: { color: value, width: 2, ...rest.line }, marker: { color: value, size: 6, ...rest.marker } };
  };

  // Plotly reads texts as a kind of HTML, links included. Every text of a figure is plain
  // but its hover templates, which are the page's own.
  const plain = (key, value) =>
    typeof value === "string" && key !== "hovertemplate"
      ? value.replace(/[&<>]/g, (character) => `&#${character.charCodeAt(0)};`)
      : value;

  const draw = (element) => {
    const data = document.getElementById(element.dataset.figure);
    if (!data) return;
    const figure = JSON.parse(data.textContent, plain);
    window.Plotly.react(element, figure.traces.map(trace), layout(figure.layout), {
      displayModeBar: false,
      responsive: true,
    });
  };

  const drawAll = () => document.querySelectorAll(".chart[data-figure]").forEach(draw);
  document.addEventListener("DOMContentLoaded", drawAll);
  document.addEventListener("themechange", drawAll);
  // A table or list inside <details> has no width until it is opened.
  document.addEventListener("toggle", drawAll, true);
})();
