/* Light or dark: the system's choice, unless this person chose here. Also marks the page
 * as scripted, before anything is painted: what only scripts fill is hidden otherwise. */
(() => {
  const root = document.documentElement;
  root.classList.add("is-scripted");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const stored = () => {
    try {
      return window.localStorage.getItem("theme");
    } catch {
      return null; // storage is switched off: follow the system
    }
  };
  const chosen = stored();
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;

  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const announce = () => document.dispatchEvent(new CustomEvent("themechange"));

  system.addEventListener("change", announce);
  document.addEventListener("DOMContentLoaded", () => {
    for (const button of document.querySelectorAll("[data-theme-toggle]")) {
      button.hidden = false;
      button.addEventListener("click", () => {
        const theme = isDark() ? "light" : "dark";
        root.dataset.theme = theme;
        try {
          window.localStorage.setItem("theme", theme);
        } catch {
          // It lasts as long as this page does.
        }
        announce();
      });
    }
  });
})();
