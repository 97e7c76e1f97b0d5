"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;

  /* Theme: the system's, unless the reader chose one. */
  const button = $("theme");
  const themes = ["auto", "light", "dark"];
  const setTheme = (theme) => {
    root.dataset.theme = theme;
    button.textContent = "Theme: " + theme;
    button.setAttribute("aria-label", "Theme: " + theme + "; press to change");
  };
  let wanted = location.hash === "#dark" ? "dark" : location.hash === "#light" ? "light" : "auto";
  try { wanted = wanted === "auto" ? localStorage.getItem("candor-theme") || wanted : wanted; } catch { /* no storage */ }
  setTheme(themes.includes(wanted) ? wanted : "auto");
  button.hidden = false;
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length];
    setTheme(next);
    try { localStorage.setItem("candor-theme", next); } catch { /* as above */ }
  });

  /* The sample browser. All text goes in through textContent. */
  const data = JSON.parse($("data").textContent);
  const classes = ["correct", "incorrect", "abstained", "no_answer"];
  const labels = ["correct", "incorrect", "abstained", "no answer"];
  const bounds = [0.1, 0.35, 0.7, 1.4, 2.3];
  const ended = ["ended", "cut by the length limit", "cancelled", "numerical error", "stopped in a loop"];
  const page = 50;
  let shown = page;

  const el = (tag, cls, text) => {
    const node = document.createElement(tag);
    if (cls) node.className = cls;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const level = (nats) => bounds.filter((bound) => nats >= bound).length;
  const num = (value, digits) => value === null || value === undefined ? "none" : value.toFixed(digits);

  /* Token texts with line breaks made visible. */
  const fillToken = (node, text) => {
    const parts = text.split("\n");
    parts.forEach((part, i) => {
      if (i > 0) { node.append(el("span", "ctl", "⏎"), "\n"); }
      node.append(part.replaceAll("\t", "⇥"));
    });
    if (text === "") node.append(el("span", "ctl", "␃"));
  };

  const decode = (samples) => {
    const all = [];
    for (const [count, answer, end, parent, from, ids, entropies, leave, cut] of samples) {
      const tokens = parent < 0 ? [] : all[parent].tokens.slice(0, from);
      ids.forEach((id, i) => tokens.push({ text: data.vocab[id], nats: parseInt(entropies.slice(2 * i, 2 * i + 2), 36) / 100 }));
      all.push({ count, answer, end, tokens, leave, cut });
    }
    return all;
  };

  const count = (weight) => Number.isInteger(weight) ? String(weight) : weight.toFixed(2);

  const bars = (entry) => {
    const box = el("div", "bars");
    const row = (label, weight, other) => {
      if (!(weight > 0)) return;
      const track = el("div", "track");
      const fill = el("span", other ? "fill other" : "fill");
      fill.style.width = (100 * weight / Math.max(entry.n, 1)) + "%";
      track.append(fill);
      box.append(el("div", "a", label), track, el("div", "n", count(weight) + " of " + entry.n));
    };
    entry.v.forEach(([answer, weight]) => row(answer, weight, false));
    ["(other answers)", "(no answer found)", "(cut by the length limit)", "(failed)"].forEach((label, i) => row(label, entry.x[i], true));
    if (!box.firstChild) box.append(el("div", "a", "no sample"));
    return box;
  };

  const sampleNode = (sample, entry, options) => {
    if (options) sample.leave = -1;
    const node = el("div", "sample");
    const head = el("div", "head");
    head.append(el("span", "", options ? "choice" : sample.count > 1 ? sample.count + " identical samples" : "1 sample"));
    if (!options) head.append(el("span", "", sample.answer >= 0 ? "answer: " + entry.v[sample.answer][0] : sample.answer === -1 ? "no answer" : "another answer"));
    if (!options) head.append(el("span", "", ended[sample.end]));
    if (sample.leave >= 0) head.append(el("span", "", "◆ leaves the largest group at token " + (sample.leave + 1)));
    const line = el("div", "tokens");
    const readout = el("div", "readout", "point at a token, or use the arrow keys, for its entropy");
    readout.setAttribute("aria-live", "polite");
    const nodes = sample.tokens.map((token, i) => {
      const span = el("span", "t e" + level(token.nats) + (i === sample.leave ? " leave" : ""));
      fillToken(span, token.text);
      span.tabIndex = i === 0 ? 0 : -1;
      span.dataset.i = i;
      return span;
    });
    line.append(...nodes);
    if (sample.cut > 0) line.append(el("span", "ctl", " … " + sample.cut + " more tokens"));
    const tell = (target) => {
      const span = target.closest(".t");
      if (!span) return;
      const i = Number(span.dataset.i);
      const token = sample.tokens[i];
      readout.textContent = "token " + (i + 1) + " of " + sample.tokens.length + ": " + JSON.stringify(token.text) + ", entropy " + token.nats.toFixed(2) +
        " nats" + (i === sample.leave ? ", leaves the largest group here" : "");
    };
    line.addEventListener("mouseover", (event) => tell(event.target));
    line.addEventListener("focusin", (event) => tell(event.target));
    line.addEventListener("keydown", (event) => {
      const at = nodes.indexOf(document.activeElement);
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: nodes.length - 1 }[event.key];
      if (at < 0 || to === undefined || !nodes[to]) return;
      event.preventDefault();
      nodes[at].tabIndex = -1;
      nodes[to].tabIndex = 0;
      nodes[to].focus();
    });
    node.append(head, line, readout);
    return node;
  };

  const key = (options) => {
    const box = el("div", "key");
    box.append(el("span", "", "entropy in nats:"));
    bounds.concat([Infinity]).forEach((bound, i) => {
      box.append(el("span", "t e" + i, i < bounds.length ? "below " + bound : "at least " + bounds[bounds.length - 1]));
    });
    if (!options) box.append(el("span", "", "◆ where a sample leaves the largest group of the others"));
    return box;
  };

  const fill = (body, entry, options) => {
    const [id, question, gold] = data.docs[entry.d];
    const list = el("dl");
    const pair = (name, text) => { if (text) list.append(el("dt", "", name), el("dd", "", text)); };
    pair("question", question);
    pair("gold answer", gold);
    pair("leading answer", entry.v.length ? entry.v[0][0] + (entry.r ? " (correct)" : " (incorrect)") : "none");
    const decision = ["answered, correct", "answered, incorrect", "abstained", "no answer"][entry.c];
    pair("decision", decision + (entry.w ? ": " + entry.w : ""));
    pair("uncertainty", num(entry.u, 4));
    pair("confidence", entry.p === undefined || entry.p === null ? "none: uncalibrated, or no answer leads" : num(entry.p, 3));
    (entry.o || []).forEach((note) => pair("note", note));
    pair("id", id);
    body.append(list, el("h4", "", "Vote"), bars(entry), el("h4", "", options ? "Choices, each scored by likelihood" : "Samples"));
    if (!entry.s) { body.append(el("p", "small", "The samples of this question are left out to keep the page small; they are in the run folder.")); return; }
    const samples = decode(entry.s);
    if (samples.length === 0) { body.append(el("p", "small", "No sample was drawn.")); return; }
    body.append(key(options));
    samples.forEach((sample) => body.append(sampleNode(sample, entry, options)));
    if (entry.m) body.append(el("p", "small", entry.m + " more distinct samples are left out."));
  };

  const rows = $("questions");
  const select = $("run");
  const search = $("search");
  const boxes = classes.map((name) => $("show-" + name));
  data.runs.forEach((run, i) => {
    const option = el("option", "", run.label);
    option.value = i;
    select.append(option);
  });

  const draw = () => {
    const run = data.runs[Number(select.value)] || { questions: [] };
    const phrase = search.value.toLowerCase().replace(/\s+/g, " ").trim();
    const text = (entry) => [data.docs[entry.d].join("\n"), entry.v.map((v) => v[0]).join("\n"), entry.w || ""].join("\n").toLowerCase().replace(/[^\S\n]+/g, " ");
    const counts = [0, 0, 0, 0];
    const found = run.questions.filter((entry) => {
      if (!text(entry).includes(phrase)) return false;
      counts[entry.c] += 1;
      return boxes[entry.c].checked;
    });
    boxes.forEach((box, i) => { box.parentNode.lastElementChild.textContent = labels[i] + " " + counts[i]; });
    $("found").textContent = found.length + " of " + run.questions.length + " listed questions";
    rows.replaceChildren(...found.slice(0, shown).map((entry) => {
      const item = el("li");
      const details = el("details");
      const summary = el("summary");
      const [, question, gold] = data.docs[entry.d];
      const name = classes[entry.c];
      const lead = entry.v.length ? entry.v[0][0] : "no answer";
      summary.append(el("span", "badge " + name, labels[entry.c]), el("span", "text", question), el("span", "got", lead + " / " + gold));
      const body = el("div", "body");
      details.append(summary, body);
      details.addEventListener("toggle", () => { if (details.open && !body.firstChild) fill(body, entry, run.options); });
      item.append(details);
      return item;
    }));
    $("more").hidden = found.length <= shown;
    rows.hidden = found.length === 0;
  };
  const restart = () => { shown = page; draw(); };
  select.addEventListener("change", restart);
  search.addEventListener("input", restart);
  boxes.forEach((box) => box.addEventListener("change", restart));
  $("more").addEventListener("click", () => { shown += page; draw(); });
  $("browser").hidden = false;
  draw();
})();
