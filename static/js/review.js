/* The desk: a key press shows the next finding at once and puts the verdict into the
 * outbox, which sends it. Every key presses a real button, so whatever works here works
 * without this file too. */
(() => {
  const { keys, combobox, rememberClass, outbox, zoom, choose, exemplars, swipe, toast } = window.hardmine;
  const BEAT = 120_000; // ms between two renewals of what is held
  const RECOUNT = 10; // so many verdicts are counted here until the server counts again
  const SAID = { confirm: "Confirmed", relabel: "Relabelled", dismiss: "Dismissed", flag: "Flagged", skip: "Skipped" };
  const setup = document.getElementById("desk-setup").dataset;
  const withQuery = (url) => (setup.query ? `${url}?${setup.query}` : url);
  const AHEAD = Number(setup.ahead);

  const ready = []; // desks that come next: articles outside the document, images loaded
  const kept = new Map(); // key of a verdict that is not answered yet -> its desk
  const given = new Map(); // key -> verdict, those of this page in their order
  const memory = (() => {
    try {
      return window.sessionStorage;
    } catch {
      return null; // storage is switched off
    }
  })();
  let usual = memory?.getItem("hardmine.reason") ?? null; // the reason last chosen
  let ended = false; // the server has no further desk
  let asking = false;
  let undoing = false;
  let active = true; // since the last beat
  let leaving = false;
  const desk = () => document.getElementById("desk");
  const idOf = (article) => article.dataset.finding;
  const waits = () => !idOf(desk());
  const action = (name) => desk().querySelector(`[data-action="${name}"]`);
  const say = (text) => { document.getElementById("desk-live").textContent = text; };
  outbox.besides = () => {
    const ids = [...[desk(), ...ready].map(idOf), ...outbox.entries().map((entry) => entry.finding)];
    return [...new Set(ids.filter(Boolean))];
  };

  /* --- one desk ---------------------------------------------------------------------- */
  const dress = (article) => {
    for (const box of article.querySelectorAll("[data-combobox]")) {
      if (!box.querySelector("[role=combobox]")) combobox(box);
    }
    const reason = article.querySelector("#reason");
    if (reason && usual !== null) reason.value = usual;
    zoom.dress(article.querySelector(".desk__image"));
  };
  const show = (article, said) => {
    const before = desk();
    exemplars.close();
    before.replaceWith(article);
    dress(article);
    zoom.fit();
    if (article.getBoundingClientRect().top < 0) article.scrollIntoView();
    document.getElementById("desk-title").focus({ preventScroll: true });
    document.getElementById("notices").replaceChildren();
    count();
    if (idOf(article)) {
      window.history.replaceState(null, "", article.dataset.link);
      document.title = document.title.replace(/^[^·]*/, () => `${article.dataset.pair} `);
    }
    const left = document.getElementById("desk-left").textContent;
    const pair = article.dataset.pair;
    if (said) say(`${said} ${left} left. ${pair ? `Now: ${pair}.` : "Waiting for the next finding."}`);
  };
  const whyWaiting = () => (outbox.state ? "Whatever was loaded is judged. More comes when the server can be reached." : "");
  const waiting = () => {
    const article = document.getElementById("desk-waits").content.querySelector("article").cloneNode(true);
    article.querySelector("[data-waits-why]").textContent = whyWaiting();
    return article;
  };

  /* --- desks from the server ------------------------------------------------------------ */
  const parse = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html;
    // Imported into this document its images load, though nothing shows them yet.
    return document.importNode(template.content, true);
  };
  const take = (html, { offer = false, done = 0, left = 0 } = {}) => {
    const answer = parse(html);
    const progress = answer.querySelector("#desk-progress");
    const shown = document.getElementById("desk-progress");
    if (progress) shown.replaceWith(progress);
    else {
      shown.dataset.done = Number(shown.dataset.done) + done;
      if (Number(shown.dataset.left) <= Number(shown.dataset.counted)) shown.dataset.left = Number(shown.dataset.left) - left;
    }
    if (offer) document.getElementById("desk-offer").replaceChildren(...[answer.querySelector("#alike")].filter(Boolean));
    count();
    return [...answer.querySelectorAll("article.desk")];
  };
  const keep = (articles) => {
    const besides = outbox.besides();
    for (const article of articles) {
      if (!besides.includes(idOf(article))) ready.push(article);
      article.querySelector(".desk__image")?.decode?.().catch(() => {}); // shown as missing
    }
    if (waits() && ready.length) show(ready.shift());
    // Judged already, in this browser: it only waits to be sent.
    else if (ready.length && outbox.entries().some((entry) => entry.finding === idOf(desk()))) show(ready.shift());
  };
  const finish = () => {
    if (!ended || !waits() || outbox.entries().length) return;
    leaving = true;
    window.location.assign(withQuery(setup.queue));
  };
  const ask = async () => {
    const own = outbox.entries().filter((entry) => entry.tab === outbox.tab); // each brings one more
    const wanted = AHEAD - ready.length - own.length + (waits() ? 1 : 0);
    if (wanted <= 0 || asking || ended) {
      finish();
      return;
    }
    asking = true;
    const [status, html] = await outbox.post(setup.next, [...new URLSearchParams(setup.query), ["count", String(wanted)], ["progress", "1"]]);
    asking = false;
    if (status !== 200) return; // asked again with the next answer, or when the net is back
    const articles = take(html);
    ended = articles.length < wanted;
    keep(articles);
    finish();
  };

  /* --- how far ---------------------------------------------------------------------------- */
  const grouped = (n) => n.toLocaleString("en-US");
  const count = () => {
    const progress = document.getElementById("desk-progress");
    const { done, left, counted } = progress.dataset;
    const entries = outbox.entries();
    const pending = entries.length;
    const now = Number(done) + entries.filter((entry) => entry.verdict !== "skip").length;
    progress.querySelector("progress").value = now;
    document.getElementById("desk-done").textContent = grouped(now);
    document.getElementById("desk-left").textContent = Number(left) > Number(counted)
      ? `over ${grouped(Number(counted))}`
      : grouped(Math.max(0, Number(left) - pending));
  };

  /* --- giving a verdict ---------------------------------------------------------------------- */
  const entryFrom = (form, submitter) => {
    const data = new FormData(form, submitter);
    data.delete("csrfmiddlewaretoken");
    const isSkip = submitter.dataset.action === "skip";
    const verdict = isSkip ? "skip" : data.get("relabel_to") ? "relabel" : data.get("verdict");
    // The menus of classes and of reasons always have a value.
    if (submitter.value !== "relabel") data.delete("new_label");
    if (verdict !== "dismiss") data.delete("reason");
    const { finding, pair, link } = desk().dataset;
    return {
      key: outbox.uuid(),
      url: submitter.hasAttribute("formaction") ? submitter.formAction : form.action,
      fields: [...data],
      finding,
      link,
      verdict,
      what: `${verdict}, ${pair}`,
    };
  };
  const give = (form, submitter) => {
    if (waits() || undoing) return;
    const entry = entryFrom(form, submitter);
    if (given.size % RECOUNT === RECOUNT - 1) entry.fields.push(["progress", "1"]);
    const label = entry.fields.find(([name]) => name === "relabel_to" || name === "new_label")?.[1];
    if (label) rememberClass(label);
    document.getElementById("desk-offer").replaceChildren();
    const article = desk();
    kept.set(entry.key, article);
    if (entry.verdict !== "skip") given.set(entry.key, entry.verdict);
    outbox.add(entry);
    show(ready.shift() ?? waiting(), `${SAID[entry.verdict]}.`);
    toast(`${SAID[entry.verdict]}.`, { undo });
    ask();
  };

  document.addEventListener("outbox:answer", ({ detail: { entry, html } }) => {
    kept.delete(entry.key);
    const isOurs = entry.tab === outbox.tab; // else the next desk is another page's
    const articles = take(isOurs ? html : "", { offer: isOurs, done: entry.verdict === "skip" ? 0 : 1, left: 1 });
    if (isOurs && !articles.length) ended = true;
    keep(articles);
    ask();
  });
  document.addEventListener("outbox:refused", ({ detail: { entry, text } }) => {
    kept.delete(entry.key);
    given.delete(entry.key);
    say(`Not recorded: ${entry.what}. ${text}`);
    ask();
  });
  document.addEventListener("outbox:change", () => {
    count();
    if (waits()) desk().querySelector("[data-waits-why]").textContent = whyWaiting();
    if (!outbox.state) ask();
  });

  /* --- taking it back --------------------------------------------------------------------------- */
  const bringBack = (article, said, verdict) => {
    if (!waits()) ready.unshift(desk());
    const double = ready.findIndex((other) => idOf(other) === idOf(article));
    if (double >= 0) ready.splice(double, 1);
    ended = false;
    const what = verdict ? `: ${verdict}` : ""; // unknown where another page gave it
    show(article, `${said}${what}. Decide again.`);
    toast(`Undone${what}.`);
  };
  const undo = async () => {
    if (undoing) return;
    undoing = true;
    document.getElementById("desk-offer").replaceChildren();
    const [key, verdict] = [...given].at(-1) ?? [];
    const article = kept.get(key);
    if (key && (await outbox.takeOut(key)) && article) {
      given.delete(key);
      kept.delete(key);
      bringBack(article, "Taken back before it was sent", verdict);
    } else {
      const [status, html] = await outbox.post(withQuery(setup.undo), [["progress", "1"], ...(key ? [["key", key]] : [])]);
      if (status === 200) {
        given.delete(key);
        const [back] = take(html);
        if (back) bringBack(back, "Undone", verdict);
      } else if (status === 0 || status >= 500) warn("Undo needs the server, which cannot be reached now. Your verdict stands; press the key again later.");
      else if (status === 401) warn("You are signed out. Your verdict stands; sign in to undo it.");
      else {
        given.delete(key); // what cannot be taken back must not bar the one before
        warn(outbox.reason(html));
      }
    }
    undoing = false;
  };

  /* --- words that pass ---------------------------------------------------------------------------- */
  const warn = (text) => {
    const notice = Object.assign(document.createElement("p"), { className: "notice notice--warning", textContent: text });
    desk().querySelector(".desk__notes, .desk__panel").prepend(notice);
    say(text);
  };

  /* --- what is held ---------------------------------------------------------------------------------- */
  const renew = async () => {
    const on = [desk(), ...ready].filter(idOf).map((article) => `${idOf(article)}:${article.dataset.version}`);
    const [status, text] = await outbox.post(setup.renew, [["on", on.join(",")]]);
    if (status !== 200) return;
    const { lost } = JSON.parse(text);
    for (let i = ready.length - 1; i >= 0; i -= 1) {
      if (lost[idOf(ready[i])]) ready.splice(i, 1);
    }
    const why = lost[idOf(desk())];
    if (why && !desk().dataset.lost) {
      desk().dataset.lost = "1";
      warn(`${why} Skip it.`);
    }
    ask();
  };
  setInterval(() => {
    if (active && !document.hidden) renew();
    active = false;
  }, BEAT);
  for (const sign of ["keydown", "pointerdown", "wheel"]) document.addEventListener(sign, () => { active = true; }, { passive: true });
  let hiddenAt = 0;
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) hiddenAt = Date.now();
    else if (Date.now() - hiddenAt > BEAT) renew();
  });
  window.addEventListener("pagehide", () => {
    // What waits to be sent stays held; else somebody could take it before it arrives.
    if (leaving || outbox.entries().length) return;
    const release = document.getElementById("desk-release");
    const data = new FormData(release);
    data.append("beacon", "1");
    navigator.sendBeacon(release.action, data);
  });
  window.addEventListener("pageshow", (event) => {
    leaving = false;
    if (event.persisted) renew();
  });

  /* --- keys, buttons, fingers ----------------------------------------------------------------------------- */
  const focusOn = (field) => {
    field?.focus();
    field?.select?.();
  };
  const relabelBox = () => desk().querySelector("[data-combobox] [role=combobox]");
  const rememberReason = (value) => {
    usual = value;
    memory?.setItem("hardmine.reason", value);
  };
  const chooseReason = () => {
    const reason = desk().querySelector("#reason");
    if (!reason) return;
    choose("Dismiss as", [...reason.options].map((option) => ({
      text: option.text,
      take: () => {
        reason.value = option.value;
        rememberReason(option.value);
        action("dismiss").click();
      },
    })));
  };
  const chooseLabel = () => {
    const guesses = [...desk().querySelectorAll("[name=relabel_to]")];
    choose("Relabel to", [
      ...guesses.map((button) => ({ text: button.dataset.name, take: () => button.click() })),
      { text: "another class…", take: () => focusOn(relabelBox()) },
    ]);
  };
  const copyLink = async () => {
    const url = new URL(action("link").getAttribute("href"), window.location.href).href;
    try {
      await navigator.clipboard.writeText(url);
      say("The link is copied.");
      action("link").textContent = "Copied";
    } catch {
      window.prompt("The link to this finding", url); // no clipboard without https
    }
  };
  const special = {
    relabel: () => focusOn(relabelBox()),
    note: () => focusOn(document.getElementById("note")),
    undo,
    dismiss_as: chooseReason,
    zoom_in: zoom.in,
    zoom_out: zoom.out,
    zoom_fit: zoom.fit,
    exemplars: exemplars.toggle,
    link: copyLink,
    help: () => document.getElementById("keys-dialog").showModal(),
  };
  const act = (name) => {
    if (special[name]) special[name]();
    else if (action(name)) action(name).click();
    else return false;
    return true;
  };
  document.addEventListener("change", (event) => {
    if (event.target.id === "reason") rememberReason(event.target.value);
  });
  document.addEventListener("submit", (event) => {
    if (event.target.id === "desk-form") {
      event.preventDefault();
      const submitter = event.submitter ?? action("confirm");
      if (submitter.dataset.action === "undo") undo();
      else give(event.target, submitter);
    } else if (event.target.id === "desk-release") {
      leaving = true;
      if (!outbox.entries().length) return;
      event.preventDefault(); // what waits to be sent stays held
      window.location.assign(withQuery(setup.queue));
    }
  });
  document.addEventListener("click", (event) => {
    const name = event.target.closest("[data-action]")?.dataset.action;
    const isButton = event.target.closest("button[type=button], a[data-action]");
    if (!name || !isButton || !special[name]) return;
    event.preventDefault();
    special[name]();
  });
  document.addEventListener("chosen", () => document.getElementById("relabel")?.click());

  const arrows = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }; // CSS pixels
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      if (keys.typing(event.target)) event.target.blur();
      exemplars.close();
    }
    if (!keys.isOurs(event)) return;
    if (arrows[event.key] && zoom.isZoomed()) {
      event.preventDefault();
      zoom.pan(...arrows[event.key]);
      return;
    }
    const onControl = event.target.closest("a, button, input, summary");
    let name = keys.actionOf(event);
    if (!name && keys.all.confirm && event.key === "Enter" && !onControl) name = "confirm";
    if (!name && keys.all.undo && event.key === "Backspace") name = "undo";
    if (name && act(name)) event.preventDefault();
  });

  swipe.on = (name) => (name === "relabel" ? chooseLabel() : action(name)?.click());

  dress(desk());
  document.documentElement.classList.add("is-ready");
  renew(); // a link opened directly is not held yet
  window.addEventListener("online", ask);
  document.addEventListener("alike:done", renew); // some of them may be ready here
})();
