/* The tiles of the grid: choosing them by click, box, range and key, and enlarging one.
 * What it offers the page is window.hardmine.tiles. */
(() => {
  const SMALL = 100; // a thumbnail narrower than this is shown with its pixels
  const DRAG = 6; // px before a press becomes a box
  const LONG = 500; // ms before a touch enlarges

  const byId = (id) => document.getElementById(id);
  const form = byId("grid-form");
  const list = byId("tiles");
  const large = byId("grid-large");
  const { actionOf } = window.hardmine.keys;

  const box = (tile) => tile.querySelector(".tile__check");
  const shown = () => [...list.children].filter((tile) => !tile.hidden);
  const open = () => shown().filter((tile) => !box(tile).disabled);
  const chosen = () => open().filter((tile) => box(tile).checked);
  let at = null; // the tile where the keyboard is
  let anchor = null; // where a range begins
  let over = null; // the tile under the pointer

  /* --- the selection -------------------------------------------------------------- */
  const show = () => {
    const tiles = open();
    const picked = tiles.filter((tile) => box(tile).checked);
    byId("grid-count").textContent = `${picked.length} of ${tiles.length}`;
    byId("grid-count-what").textContent = "selected";
    byId("grid-all").firstElementChild.textContent = tiles.length && picked.length === tiles.length ? "None" : "All";
    byId("grid-empty").hidden = tiles.length > 0;
    const live = byId("grid-live");
    if (picked.length && "missing" in live.dataset) {
      live.textContent = "";
      delete live.dataset.missing;
    }
  };
  const go = (tile, { focus = true } = {}) => {
    if (!tile) return;
    if (at) box(at).tabIndex = -1;
    at = tile;
    box(at).tabIndex = 0;
    if (!focus) return;
    box(at).focus({ preventScroll: true });
    at.scrollIntoView({ block: "nearest" });
  };
  const set = (tiles, value) => {
    for (const tile of tiles) box(tile).checked = value;
    show();
  };
  const range = (from, to) => {
    const tiles = open();
    const [a, b] = [tiles.indexOf(from), tiles.indexOf(to)].sort((x, y) => x - y);
    return a < 0 ? [to] : tiles.slice(a, b + 1);
  };
  const all = () => set(open(), chosen().length < open().length);
  const fit = (image) => {
    image.classList.toggle("is-missing", !image.naturalWidth);
    image.classList.toggle("is-small", image.naturalWidth > 0 && image.naturalWidth < SMALL);
  };
  const settle = () => {
    for (const tile of list.children) {
      box(tile).tabIndex = -1;
      tile.querySelector(".tile__open").tabIndex = -1;
      const image = tile.querySelector("img");
      if (image.complete) fit(image);
    }
    go(at?.isConnected && !at.hidden ? at : shown()[0], { focus: false });
    show();
  };
  document.addEventListener("error", ({ target }) => {
    if (target.matches?.(".tile__image")) fit(target);
  }, true);
  document.addEventListener("load", ({ target }) => {
    if (target.matches?.(".tile__image")) fit(target);
    else if (target.matches?.(".grid-large img")) target.classList.toggle("is-small", target.naturalWidth < 400);
  }, true);

  let ignoreClick = false; // it ends a box or a long press
  list.addEventListener("click", (event) => {
    const tile = event.target.closest(".tile");
    if (!tile || event.target.closest("a") || event.target === box(tile)) return; // Space comes so
    event.preventDefault();
    if (ignoreClick || box(tile).disabled) return;
    const value = event.shiftKey && anchor ? box(anchor).checked : !box(tile).checked;
    set(event.shiftKey && anchor ? range(anchor, tile) : [tile], value);
    if (!event.shiftKey) anchor = tile;
    go(tile);
  });
  list.addEventListener("change", (event) => {
    anchor = event.target.closest(".tile");
    show();
  });
  list.addEventListener("pointerover", (event) => {
    over = event.pointerType === "mouse" ? event.target.closest(".tile") : null;
  });
  list.addEventListener("pointerleave", () => {
    over = null;
  });

  /* --- a box with the mouse, a long press with a finger ------------------------------ */
  let press = null;
  const boxRect = ({ x, y }) => ({
    left: Math.min(x, press.x), top: Math.min(y, press.y), right: Math.max(x, press.x), bottom: Math.max(y, press.y),
  });
  const inside = (rect, tile) => {
    const { offsetLeft: left, offsetTop: top, offsetWidth: width, offsetHeight: height } = tile;
    return left < rect.right && left + width > rect.left && top < rect.bottom && top + height > rect.top;
  };
  const place = (event) => {
    const origin = list.getBoundingClientRect();
    return { x: event.clientX - origin.left, y: event.clientY - origin.top };
  };
  form.addEventListener("pointerdown", (event) => {
    ignoreClick = false;
    if (event.button || event.target.closest("a, button, select, textarea, .grid-bar, .empty")) return;
    press = { ...place(event), touch: event.pointerType !== "mouse", keep: event.shiftKey || event.ctrlKey || event.metaKey };
    press.tile = event.target.closest(".tile");
    if (press.touch && press.tile) {
      press.timer = setTimeout(() => {
        ignoreClick = true;
        enlarge(press.tile);
      }, LONG);
    }
  });
  document.addEventListener("pointermove", (event) => {
    if (!press) return;
    const now = place(event);
    if (!press.box && Math.hypot(now.x - press.x, now.y - press.y) < DRAG) return;
    clearTimeout(press.timer);
    if (press.touch) return;
    if (!press.box) {
      press.box = document.createElement("div");
      press.box.className = "tiles-box";
      form.append(press.box);
      press.before = new Set(press.keep ? chosen() : []);
    }
    if (event.clientY > innerHeight - 40) scrollBy(0, 16);
    else if (event.clientY < 40) scrollBy(0, -16);
    const rect = boxRect(place(event));
    Object.assign(press.box.style, {
      left: `${rect.left + list.offsetLeft}px`, top: `${rect.top + list.offsetTop}px`,
      width: `${rect.right - rect.left}px`, height: `${rect.bottom - rect.top}px`,
    });
    for (const tile of open()) box(tile).checked = press.before.has(tile) || inside(rect, tile);
    show();
  });
  for (const end of ["pointerup", "pointercancel"]) {
    document.addEventListener(end, () => {
      clearTimeout(press?.timer);
      if (press?.box) {
        press.box.remove();
        ignoreClick = true;
        go(chosen().at(-1));
      }
      press = null;
    });
  }
  list.addEventListener("contextmenu", (event) => {
    if (event.pointerType === "touch") event.preventDefault(); // the long press is taken
  });

  /* --- one of them, large ----------------------------------------------------------- */
  const enlarge = (tile) => {
    if (!tile) return;
    go(tile, { focus: false });
    const small = tile.querySelector(".tile__image");
    const image = large.querySelector("img");
    image.src = small.src.replace(/-grid\.webp$/, "-focus.webp");
    image.alt = small.alt;
    const words = [".tile__pair", ".tile__line"].map((part) => tile.querySelector(part).textContent);
    byId("grid-large-title").textContent = words.join(", ").replace(/\s+/g, " ").trim();
    markLarge();
    if (!large.open) large.showModal();
  };
  const markLarge = () => {
    const isChosen = box(at).checked;
    large.classList.toggle("is-chosen", isChosen);
    large.querySelector("[data-do=toggle]").textContent = isChosen ? "Selected" : "Select";
    large.querySelector("[data-do=toggle]").setAttribute("aria-pressed", String(isChosen));
  };
  const inLarge = {
    before: () => enlarge(shown()[shown().indexOf(at) - 1]),
    after: () => enlarge(shown()[shown().indexOf(at) + 1]),
    toggle: () => {
      if (box(at).disabled) return;
      set([at], !box(at).checked);
      markLarge();
    },
    close: () => large.close(),
  };
  large.addEventListener("click", (event) => inLarge[event.target.closest("[data-do]")?.dataset.do]?.());
  large.addEventListener("close", () => go(at));
  large.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: "before", ArrowRight: "after" };
    const act = inLarge[steps[event.key] ?? (actionOf(event) === "enlarge" ? "close" : "")];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation(); // closed here, the page would open it again
    act();
  });

  /* --- arrow keys --------------------------------------------------------------------- */
  const columns = () => {
    const tiles = shown();
    return tiles.filter((tile) => tile.offsetTop === tiles[0].offsetTop).length;
  };
  const steps = { ArrowLeft: () => -1, ArrowRight: () => 1, ArrowUp: () => -columns(), ArrowDown: columns };
  /* Takes an arrow, Home or End; false: it was none of them. */
  const walk = (event) => {
    const tiles = shown();
    const isStep = event.key in steps;
    if (!isStep && event.key !== "Home" && event.key !== "End") return false;
    if (!tiles.length || event.target.closest("summary, .grid-bar")) return false;
    const onTile = list.contains(document.activeElement);
    let to = tiles.indexOf(at) + (isStep && onTile ? steps[event.key]() : 0);
    if (event.key === "Home") to = 0;
    if (event.key === "End") to = tiles.length - 1;
    if (!tiles[to]) return true;
    if (event.shiftKey && onTile) {
      anchor ??= at;
      set(range(anchor, tiles[to]).filter((tile) => !box(tile).disabled), true);
    } else anchor = tiles[to];
    go(tiles[to]);
    return true;
  };

  window.hardmine.tiles = {
    list, box, shown, open, chosen, set, all, settle, show, go, walk,
    enlarge: () => enlarge(over ?? at),
    here: () => at,
  };
})();
