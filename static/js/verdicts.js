/* One key undoes the line that shows it; arrows go from undo to undo. */
(() => {
  const buttons = [...document.querySelectorAll("#verdicts button")];
  let pressed = false; // one undo at a time: the page that follows has other keys

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing || pressed) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const here = buttons.indexOf(document.activeElement);
      const to = buttons[here + (event.key === "ArrowDown" ? 1 : -1)] ?? (here < 0 ? buttons[0] : null);
      if (to) {
        event.preventDefault();
        to.focus();
      }
      return;
    }
    const button = buttons.find((one) => one.dataset.key === event.key);
    if (!button) return;
    event.preventDefault();
    pressed = true;
    button.click();
  });
  window.addEventListener("pageshow", () => {
    pressed = false;
  });
})();
