/* The exemplars of the desk, large: one under the pointer or with the focus, or, by
 * hardmine.exemplars.toggle(), all of them over the image. */
(() => {
  const stage = () => document.querySelector(".desk__stage");

  const lens = (link) => {
    stage()?.querySelector(".lens")?.remove();
    if (!link) return;
    const image = Object.assign(document.createElement("img"), { src: link.href, alt: "", width: 640, height: 640 });
    const figure = Object.assign(document.createElement("figure"), { className: "lens" });
    figure.append(image, Object.assign(document.createElement("figcaption"), { textContent: link.title }));
    stage().append(figure);
  };
  const signs = { mouseover: true, mouseout: false, focusin: true, focusout: false };
  for (const [sign, isOn] of Object.entries(signs)) {
    document.addEventListener(sign, (event) => {
      const link = event.target.closest?.(".exemplar");
      if (link) lens(isOn ? link : null);
    });
  }
  document.addEventListener("click", (event) => {
    if (event.target.closest(".exemplar")) event.preventDefault(); // it is shown already
  });

  const close = () => {
    lens(null);
    stage()?.querySelector(".compare")?.remove();
  };
  const toggle = () => {
    const small = document.querySelector(".desk__exemplars");
    const isOpen = Boolean(stage()?.querySelector(".compare"));
    close();
    if (isOpen || !small) return;
    const large = small.cloneNode(true);
    large.className = "compare";
    for (const link of large.querySelectorAll("a")) link.replaceWith(...link.childNodes);
    stage().append(large);
  };

  window.hardmine = { ...window.hardmine, exemplars: { toggle, close } };
})();
