/* A click on a chart with data-sets="FIELD" puts the place into that field of the form #ask
 * and asks. The fields do the same without a script. */
document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("ask");
  for (const chart of document.querySelectorAll(".chart[data-sets]")) {
    chart.on?.("plotly_click", ({ points }) => {
      form.elements[chart.dataset.sets].value = points[0].x;
      form.requestSubmit();
    });
  }
});
