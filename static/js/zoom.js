/* Zoom and pan of the image in [data-zoom]: wheel, pinch, drag, double click; the page's
 * keys call hardmine.zoom. A new image begins whole. */
(() => {
  const MOST = 16;
  const STEP = 1.4;
  const DOUBLE = 2.5;
  const SMALL = 400; // an image narrower than this is shown with its pixels
  const views = new WeakMap(); // stage -> {scale, x, y}; x and y in CSS pixels
  const pointers = new Map(); // pointer id -> last place
  let stage = null; // under the pointers

  const viewOf = (of) => views.get(of) ?? { scale: 1, x: 0, y: 0 };
  const current = () => document.querySelector("[data-zoom]");
  const show = (of, { scale, x, y }) => {
    const image = of.querySelector("img");
    const { clientWidth: width, clientHeight: height } = of;
    const view = {
      scale,
      // The image fills the stage: nothing beside it comes into view.
      x: Math.min(0, Math.max(width * (1 - scale), x)),
      y: Math.min(0, Math.max(height * (1 - scale), y)),
    };
    views.set(of, view);
    if (!image) return;
    image.style.transform = scale === 1 ? "" : `translate(${view.x}px, ${view.y}px) scale(${scale})`;
    of.classList.toggle("is-zoomed", scale > 1);
  };
  const zoomAt = (of, factor, clientX, clientY) => {
    const box = of.getBoundingClientRect();
    const before = viewOf(of);
    const scale = Math.min(MOST, Math.max(1, before.scale * factor));
    const [px, py] = [clientX - box.left, clientY - box.top];
    const ratio = scale / before.scale;
    show(of, { scale, x: px - (px - before.x) * ratio, y: py - (py - before.y) * ratio });
  };
  const zoomMiddle = (factor) => {
    const of = current();
    if (!of) return;
    const box = of.getBoundingClientRect();
    zoomAt(of, factor, box.left + box.width / 2, box.top + box.height / 2);
  };
  const pan = (of, dx, dy) => {
    const { scale, x, y } = viewOf(of);
    show(of, { scale, x: x + dx, y: y + dy });
  };
  const isZoomed = () => Boolean(current()) && viewOf(current()).scale > 1;

  /* --- an image that has come, or has not ----------------------------------------- */
  const dress = (image) => {
    if (!image?.complete) return;
    image.classList.toggle("is-small", image.naturalWidth > 0 && image.naturalWidth < SMALL);
    image.classList.toggle("is-missing", !image.naturalWidth);
  };
  for (const sign of ["load", "error"]) {
    document.addEventListener(sign, (event) => {
      if (event.target.matches?.(".desk__image")) dress(event.target);
    }, true);
  }

  document.addEventListener("wheel", (event) => {
    const of = event.target.closest?.("[data-zoom]");
    if (!of) return;
    event.preventDefault();
    zoomAt(of, Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.clientX, event.clientY);
  }, { passive: false });
  document.addEventListener("dblclick", (event) => {
    const of = event.target.closest("[data-zoom]");
    if (!of || event.target.closest("button")) return;
    if (viewOf(of).scale > 1) show(of, { scale: 1, x: 0, y: 0 });
    else zoomAt(of, DOUBLE, event.clientX, event.clientY);
  });

  document.addEventListener("pointerdown", (event) => {
    const of = event.target.closest("[data-zoom]");
    if (!of || event.target.closest("button")) return;
    stage = of;
    pointers.set(event.pointerId, event);
  });
  document.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    if (pointers.size === 2) {
      const [other] = [...pointers.values()].filter((p) => p.pointerId !== event.pointerId);
      const distance = (p) => Math.hypot(p.clientX - other.clientX, p.clientY - other.clientY);
      const factor = distance(event) / Math.max(1, distance(before));
      zoomAt(stage, factor, (event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2);
    } else if (viewOf(stage).scale > 1) {
      pan(stage, event.clientX - before.clientX, event.clientY - before.clientY);
    }
    pointers.set(event.pointerId, event);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    document.addEventListener(end, (event) => pointers.delete(event.pointerId));
  }
  window.addEventListener("resize", () => {
    if (current()) show(current(), viewOf(current()));
  });

  window.hardmine = {
    ...window.hardmine,
    zoom: {
      dress,
      in: () => zoomMiddle(STEP),
      out: () => zoomMiddle(1 / STEP),
      fit: () => current() && show(current(), { scale: 1, x: 0, y: 0 }),
      pan: (dx, dy) => pan(current(), dx, dy),
      isZoomed,
      pointers: () => pointers.size,
    },
  };
})();
