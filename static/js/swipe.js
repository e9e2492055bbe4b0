/* A swipe over the image: hardmine.swipe.on(name) is called with confirm (right), dismiss
 * (left) or relabel (up); never while the image is enlarged or pinched. */
(() => {
  const FAR = 70; // CSS pixels
  const STRAIGHT = 1.5; // along over across
  const { zoom } = window.hardmine;
  const swipe = { on: () => {} };
  let start = null;

  const nameOf = (event) => {
    const [dx, dy] = [event.clientX - start.x, event.clientY - start.y];
    const [along, across] = [Math.abs(dx), Math.abs(dy)];
    if (along > FAR && along > STRAIGHT * across) return dx > 0 ? "confirm" : "dismiss";
    return dy < -FAR && across > STRAIGHT * along ? "relabel" : "";
  };
  document.addEventListener("pointerdown", (event) => {
    const stage = event.target.closest(".desk__stage");
    const begins = stage && event.pointerType === "touch" && event.isPrimary && !zoom.isZoomed() && !event.target.closest("button");
    start = begins ? { stage, x: event.clientX, y: event.clientY } : null;
  });
  document.addEventListener("pointermove", (event) => {
    if (!start || !event.isPrimary) return;
    start.stage.dataset.swipe = zoom.isZoomed() || zoom.pointers() > 1 ? "" : nameOf(event);
    if (zoom.isZoomed() || zoom.pointers() > 1) start = null;
  });
  for (const end of ["pointerup", "pointercancel"]) {
    document.addEventListener(end, (event) => {
      if (!start || !event.isPrimary) return;
      const name = end === "pointerup" ? nameOf(event) : "";
      delete start.stage.dataset.swipe;
      start = null;
      if (name) swipe.on(name);
    });
  }
  window.hardmine = { ...window.hardmine, swipe };
})();
