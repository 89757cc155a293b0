// The studio's script: keeps live parts fresh, shows values under the pointer, asks before acting, streams answers.
"use strict";
(() => {
  const token = document.body.dataset.token || "";
  const say = (text) => {
    const place = document.getElementById("say");
    if (place && text) place.textContent = text;
  };
  const before = sessionStorage.getItem("said");
  if (before) {
    sessionStorage.removeItem("said");
    setTimeout(() => say(before), 300);
  }
  const make = (name, className, text) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  // Live parts: a place names an address whose answer holds the new content of parts by their ids.
  const shown = new Map();
  const replace = (id, html) => {
    const place = document.getElementById(id);
    if (!place || shown.get(id) === html || place.querySelector("dialog[open]")) return;
    const open = new Set([...place.querySelectorAll("details[open]")].map((d) => d.dataset.key));
    const chosen = new Set([...place.querySelectorAll("input[type=checkbox]:checked")].map((i) => i.value));
    const scrolled = [...place.querySelectorAll(".scroll, pre")].map((e) => [e.scrollLeft, e.scrollTop, e.scrollHeight - e.clientHeight]);
    const active = place.contains(document.activeElement) ? document.activeElement : null;
    const like = active && ((e) => e.tagName === active.tagName && e.getAttribute("href") === active.getAttribute("href")
      && e.value === active.value && e.textContent === active.textContent);
    shown.set(id, html);
    place.innerHTML = html;
    for (const details of place.querySelectorAll("details")) details.open = open.has(details.dataset.key);
    for (const input of place.querySelectorAll("input[type=checkbox]")) input.checked = chosen.has(input.value);
    place.querySelectorAll(".scroll, pre").forEach((element, i) => {
      const before = scrolled[i];
      if (!before) return;
      element.scrollLeft = before[0];
      // What was read at its end is read on there.
      element.scrollTop = before[1] >= before[2] - 4 ? element.scrollHeight : before[1];
    });
    if (like) [...place.querySelectorAll(active.tagName)].find(like)?.focus({ preventScroll: true });
    count();
  };
  for (const place of document.querySelectorAll("[data-live]")) {
    let state = place.dataset.state;
    let misses = 0;
    const look = async () => {
      let again = 5;
      if (!document.hidden) {
        try {
          const answer = await fetch(place.dataset.live, { headers: { Accept: "application/json" } });
          const told = await answer.json();
          for (const [id, html] of Object.entries(told.parts || {})) replace(id, html);
          if (told.state && state && told.state !== state) {
            say(told.said);
            // There is more to see now than the parts that change.
            if (state === "preparing" || told.state === "finished") {
              sessionStorage.setItem("said", told.said);
              location.reload();
              return;
            }
          }
          state = told.state || state;
          misses = 0;
          if (told.gone) {
            say(told.said);
            for (const id of ["live-actions", "live-progress"]) replace(id, "");
            return;
          }
          again = told.again || again;
        } catch {
          // The studio was closed, or comes back in a moment.
          misses += 1;
          again = Math.min(30, 2 ** misses);
        }
      }
      wait = setTimeout(look, again * 1000);
    };
    let wait = setTimeout(look, 1000);
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) return;
      clearTimeout(wait);
      look();
    });
  }

  // Runs that are chosen to be compared.
  const count = () => {
    for (const form of document.querySelectorAll("[data-chooser]")) {
      const button = form.querySelector("button[type=submit]");
      button.disabled = form.querySelectorAll("input[name=run]:checked").length < 2;
    }
  };
  count();
  window.addEventListener("pageshow", count);
  document.addEventListener("change", (event) => {
    if (event.target.name === "run") count();
    if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
  });

  // Questions before something is done; and a button that works says so.
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-dialog]");
    if (opener) {
      event.preventDefault();
      document.getElementById(opener.dataset.dialog)?.showModal();
    }
    const closer = event.target.closest("dialog [data-close]");
    if (closer) {
      event.preventDefault();
      closer.closest("dialog").close();
    }
  });
  document.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (!button?.dataset.busy || event.defaultPrevented) return;
    setTimeout(() => {
      for (const each of event.target.querySelectorAll("button")) each.disabled = true;
      button.textContent = button.dataset.busy;
      say(button.dataset.busy);
    });
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });

  // Values under the pointer.
  const figure = (value) => {
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-4 || size >= 1e9)) return value.toExponential(3);
    return value.toLocaleString("en", { maximumSignificantDigits: 5 });
  };
  let pointed = null;
  const leave = () => {
    if (pointed) for (const element of pointed.extra) element.remove();
    pointed = null;
  };
  const near = (points, x) => {
    let [low, high] = [0, points.length - 1];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (points[middle][0] < x) low = middle; else high = middle;
    }
    return Math.abs(points[low][0] - x) <= Math.abs(points[high][0] - x) ? points[low] : points[high];
  };
  document.addEventListener("pointermove", (event) => {
    const canvas = event.target.closest?.(".canvas");
    const chart = canvas?.closest("[data-chart]");
    if (!chart) return leave();
    if (pointed?.chart !== chart) {
      leave();
      pointed = { chart, data: JSON.parse(chart.dataset.chart), extra: [] };
    }
    const { data } = pointed;
    for (const element of pointed.extra) element.remove();
    const plot = canvas.querySelector(".plot");
    const [frame, area] = [canvas.getBoundingClientRect(), plot.getBoundingClientRect()];
    const share = Math.min(1, Math.max(0, (event.clientX - area.left) / area.width));
    const [left, right] = data.x;
    const x = near(data.series[0].points, left + share * (right - left))[0];
    const [low, high, log] = data.y;
    const across = (area.left - frame.left) + (x - left) / (right - left) * area.width;
    const move = (element, dx, dy) => { element.style.transform = `translate(${dx}px, ${dy}px)`; };
    const cross = make("div", "cross");
    move(cross, across, 0);
    const tip = make("div", "tip");
    tip.append(make("div", "", `${data.step} ${Math.round(x).toLocaleString("en")}`));
    pointed.extra = [cross, tip];
    for (const series of data.series) {
      const point = near(series.points, x);
      if (Math.abs(point[0] - x) > (right - left) / 20) continue;
      const up = log ? Math.log(point[1] / low) / Math.log(high / low) : (point[1] - low) / (high - low);
      const knob = make("div", `knob s${series.colour}`);
      move(knob, (area.left - frame.left) + (point[0] - left) / (right - left) * area.width, (1 - up) * data.height);
      const line = make("div");
      line.append(make("span", `swatch s${series.colour}`), `${series.name}  ${figure(point[1])}`);
      tip.append(line);
      pointed.extra.push(knob);
    }
    canvas.append(...pointed.extra);
    const beyond = across + tip.offsetWidth + 24 > frame.width;
    move(tip, beyond ? across - tip.offsetWidth - 12 : across + 12, 8);
  });
  document.addEventListener("scroll", leave, { passive: true });

  const failure = async (answer) => {
    const told = await answer.json().catch(() => null);
    return told?.error?.message || `${answer.status} ${answer.statusText}`;
  };
  const wrong = (place, text) => {
    const notice = make("div", "notice bad", text);
    notice.setAttribute("role", "alert");
    place.hidden = false;
    place.replaceChildren(notice);
  };

  // Text that is written comes bit by bit.
  for (const form of document.querySelectorAll("[data-writes]")) {
    const out = document.querySelector("[data-written]");
    const [go, stop] = [form.querySelector("[type=submit]"), form.querySelector("[data-stop]")];
    let ending = null;
    stop.addEventListener("click", () => ending?.abort());
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const fields = new FormData(form);
      const prompt = fields.get("prompt");
      const body = { stream: true };
      for (const name of ["max_tokens", "temperature", "top_p", "seed"]) {
        const value = String(fields.get(name) || "").trim();
        if (value !== "") body[name] = Number.isNaN(Number(value)) ? value : Number(value);
      }
      const chat = fields.get("chat") !== null;
      if (chat) body.messages = [{ role: "user", content: prompt }]; else body.prompt = prompt;
      ending = new AbortController();
      [go.disabled, stop.disabled] = [true, false];
      out.hidden = false;
      out.setAttribute("aria-busy", "true");
      const text = document.createTextNode("");
      out.replaceChildren(...(chat ? [] : [make("b", "", prompt)]), text);
      try {
        const answer = await fetch(form.dataset.writes, {
          method: "POST", body: JSON.stringify(body), signal: ending.signal,
          headers: { "Content-Type": "application/json", "X-Studio-Token": token },
        });
        if (!answer.ok) throw new Error(await failure(answer));
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        let rest = "";
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          const lines = (rest + value).split("\n");
          rest = lines.pop();
          for (const line of lines) {
            if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
            const told = JSON.parse(line.slice(6));
            if (told.error) throw new Error(told.error.message);
            for (const choice of told.choices) text.data += choice.text ?? choice.delta?.content ?? "";
          }
        }
      } catch (error) {
        if (error.name !== "AbortError") wrong(out, error.message);
      }
      out.removeAttribute("aria-busy");
      [go.disabled, stop.disabled] = [false, true];
    });
  }

  // A picture is sent, and what the model says of it is shown beside or on it.
  const percent = (share) => `${(share * 100).toFixed(1)} %`;
  const classes = (place, row) => {
    const shares = Object.entries(row).filter(([key]) => key.startsWith("probability_"))
      .map(([key, value]) => [key.slice("probability_".length), value]).sort((a, b) => b[1] - a[1]).slice(0, 12);
    const list = make("ul", "shares");
    for (const [name, share] of shares) {
      const bar = make("progress");
      [bar.max, bar.value] = [1, share];
      bar.setAttribute("aria-label", name);
      const item = make("li");
      item.append(make("span", "name", name), bar, make("span", "percent", percent(share)));
      list.append(item);
    }
    place.replaceChildren(make("div", "told", String(row.prediction ?? "")), list);
  };
  const boxes = (place, seen, objects, none) => {
    const picture = seen.querySelector("img");
    const space = "http://www.w3.org/2000/svg";
    const drawing = document.createElementNS(space, "svg");
    drawing.setAttribute("viewBox", `0 0 ${picture.naturalWidth} ${picture.naturalHeight}`);
    drawing.setAttribute("preserveAspectRatio", "none");
    drawing.setAttribute("aria-hidden", "true");
    const names = [...new Set(objects.map((b) => b.class))].sort();
    const list = make("ul", "shares");
    for (const found of objects) {
      const colour = `s${names.indexOf(found.class) % 8}`;
      const { left, top, right, bottom } = found;
      const rect = document.createElementNS(space, "rect");
      rect.setAttribute("class", colour);
      for (const [key, value] of [["x", left], ["y", top], ["width", right - left], ["height", bottom - top]]) rect.setAttribute(key, value);
      drawing.append(rect);
      const bar = make("progress");
      [bar.max, bar.value] = [1, found.score];
      bar.setAttribute("aria-label", found.class);
      const item = make("li");
      item.append(make("span", `name ${colour}`, found.class), bar, make("span", "percent", percent(found.score)));
      list.append(item);
    }
    seen.append(drawing);
    place.replaceChildren(objects.length ? list : make("p", "quiet", none));
  };
  for (const form of document.querySelectorAll("[data-sees]")) {
    const [seen, said] = [document.querySelector("[data-seen]"), document.querySelector("[data-said]")];
    const input = form.querySelector("input[type=file]");
    const ask = async (file) => {
      if (!file) return;
      const picture = make("img");
      picture.alt = file.name;
      picture.src = URL.createObjectURL(file);
      seen.replaceChildren(picture);
      [seen.hidden, said.hidden] = [false, false];
      said.replaceChildren(make("p", "quiet", form.dataset.asking));
      try {
        const answer = await fetch(form.dataset.sees, {
          method: "POST", body: file,
          headers: { "Content-Type": file.type || "application/octet-stream", "X-Studio-Token": token },
        });
        if (!answer.ok) throw new Error(await failure(answer));
        const told = (await answer.json()).predictions[0];
        await picture.decode().catch(() => {});
        if (told.objects) boxes(said, seen, told.objects, form.dataset.none); else classes(said, told);
      } catch (error) {
        wrong(said, error.message);
      }
    };
    input.addEventListener("change", () => ask(input.files[0]));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("dragover", (event) => { event.preventDefault(); form.classList.add("over-drop"); });
    form.addEventListener("dragleave", () => form.classList.remove("over-drop"));
    form.addEventListener("drop", (event) => {
      event.preventDefault();
      form.classList.remove("over-drop");
      ask(event.dataTransfer.files[0]);
    });
  }
})();
