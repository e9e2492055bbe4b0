/* A click on a chart with data-sets="FIELD" puts the place into that field of the form #ask
 * and asks. The fields do the same without a script. */
document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("ask");
  for (const chart of document.querySelectorAll(".chart[data-sets]")) {
    // Not plotly_click: it tells of what was hovered up to 50 ms before, or of nothing.
    chart.addEventListener("click", (event) => {
      const area = event.target.closest(".nsewdrag")?.getBoundingClientRect();
      if (!area) return;
      const at = chart._fullLayout.xaxis.p2c(event.clientX - area.left);
      const nearer = (best, x) => (Math.abs(x - at) < Math.abs(best - at) ? x : best);
      form.elements[chart.dataset.sets].value = chart.data[0].x.reduce(nearer);
      form.requestSubmit();
    });
  }
});
