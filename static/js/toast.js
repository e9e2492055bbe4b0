/* hardmine.toast(text, {kind, undo}): a line that passes, over the image, so that nothing
 * moves. What it says is said in #desk-live too. */
(() => {
  const SHOWN = 6000; // ms
  let fading;
  const toast = (text, { kind = "success", undo = null } = {}) => {
    const box = document.getElementById("desk-toast");
    clearTimeout(fading);
    const line = Object.assign(document.createElement("p"), { className: `notice notice--${kind} outbox__line`, textContent: text });
    // With keys, "u" is at hand; a finger wants a button.
    if (undo && window.matchMedia("(pointer: coarse)").matches) {
      const button = Object.assign(document.createElement("button"), { type: "button", className: "btn", textContent: "Undo" });
      button.addEventListener("click", undo);
      line.append(button);
    }
    box.replaceChildren(line);
    fading = setTimeout(() => box.replaceChildren(), SHOWN);
  };

  window.hardmine = { ...window.hardmine, toast };
})();
