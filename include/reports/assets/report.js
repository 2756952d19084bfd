"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const words = {
    en: {
      component: "component", components: "components", of: "of the differences", other: "other labels", reset: "show everything",
      zoomIn: "zoom in", zoomOut: "zoom out", across: "from left to right", up: "from bottom to top", all: "all labels",
      map: "Map of the photos; a list of the labels follows", curve: "share of the differences kept", kept: "kept",
      accuracy: "photos whose neighbours name their label", k: "components kept", mean: "shift of the mean",
      change: "change of the variance", missed: "variance the previous components miss", cost: "cost at most, €",
      minutes: "minutes", oneRun: "one run so far", starting: "starting", ending: "shutting down", idle: "idle",
      noPicture: "no picture", cluster: "Time line of the cluster", photos: "photos",
    },
    fr: {
      component: "composante", components: "composantes", of: "des différences", other: "autres étiquettes", reset: "tout afficher",
      zoomIn: "agrandir", zoomOut: "réduire", across: "de gauche à droite", up: "de bas en haut", all: "toutes les étiquettes",
      map: "Carte des photos ; la liste des étiquettes suit", curve: "part des différences conservée", kept: "gardées",
      accuracy: "photos dont les voisines donnent l’étiquette", k: "composantes gardées", mean: "décalage de la moyenne",
      change: "variation de la variance", missed: "variance manquée par les composantes précédentes", cost: "coût maximal, €",
      minutes: "minutes", oneRun: "une seule exécution pour l’instant", starting: "démarrage", ending: "arrêt", idle: "inactif",
      noPicture: "pas d’image", cluster: "Chronologie du cluster", photos: "photos",
    },
  };
  // Okabe and Ito's colours, which people with any colour vision tell apart, without black and yellow; then shapes.
  const colors = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1"];
  const shapes = [d3.symbolCircle, d3.symbolSquare, d3.symbolTriangle, d3.symbolDiamond2, d3.symbolStar, d3.symbolWye];
  const gray = "#8b949e";
  let lang = "en";
  const t = (key) => words[lang][key];
  const formatNumber = (value, digits = 0) =>
    value.toLocaleString(lang, { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const formatShare = (value, digits = 0) =>
    value.toLocaleString(lang, { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits });
  const photoOf = (number) => {
    const [path, label, thumbnail] = data.photos[number];
    return { path, label: data.labels[label], labelNumber: label, source: thumbnail && `data:image/webp;base64,${thumbnail}` };
  };

  function fillPhotos() {
    for (const image of document.querySelectorAll("img[data-photo]")) {
      image.src = photoOf(+image.dataset.photo).source;
    }
  }

  function setLanguage(code, remember) {
    lang = code;
    document.documentElement.lang = code;
    for (const button of document.querySelectorAll(".switch button")) {
      button.setAttribute("aria-pressed", String(button.dataset.lang === code));
    }
    if (remember) {
      try { localStorage.setItem("fruit-report-language", code); } catch { /* a file may not store anything */ }
    }
    drawAll();
  }

  function firstLanguage() {
    try {
      const stored = localStorage.getItem("fruit-report-language");
      if (stored in words) return stored;
    } catch { /* a file may not store anything */ }
    const wanted = (navigator.languages ?? [navigator.language]).map((code) => code.slice(0, 2));
    return wanted.find((code) => code in words) ?? "en";
  }

  // ---- the map ----
  const map = { x: 0, y: 1, transform: d3.zoomIdentity, focus: null, hover: null, touched: false };
  let redrawMap = () => {};

  function styleOf(label) {
    const rank = data.legend.indexOf(label);
    if (rank < 0) return { color: gray, shape: d3.symbolCircle };
    return { color: colors[rank % colors.length], shape: shapes[Math.floor(rank / colors.length) % shapes.length] };
  }

  function setUpMap() {
    const plot = document.getElementById("plot");
    if (!plot || !data.map.photos.length) return;
    const canvas = plot.querySelector("canvas"), svg = d3.select(plot.querySelector("svg")), card = plot.querySelector(".card");
    const photos = data.map.photos.map(photoOf);
    const margin = { left: 46, right: 14, top: 14, bottom: 40 };
    const path = new Map(data.legend.map((label) => [label, new Path2D(d3.symbol(styleOf(label).shape, 46)())]));
    const plain = new Path2D(d3.symbol(d3.symbolCircle, 40)());
    let points = [], delaunay = null, width = 0, height = 0;

    const zoom = d3.zoom().scaleExtent([1, 60])
      .filter((event) => event.type === "wheel" ? event.ctrlKey || event.metaKey : event.touches ? event.touches.length > 1 : !event.button)
      .on("zoom", (event) => { map.transform = event.transform; redrawMap(); });
    d3.select(canvas).call(zoom);
    for (const [id, change] of [["zoom-in", 1.6], ["zoom-out", 1 / 1.6]]) {
      document.getElementById(id).addEventListener("click", () => d3.select(canvas).transition().duration(150).call(zoom.scaleBy, change));
    }
    document.getElementById("zoom-reset").addEventListener("click", () => d3.select(canvas).call(zoom.transform, d3.zoomIdentity));

    function show(number, x, y) {
      map.hover = number;
      card.classList.toggle("shown", number !== null);
      if (number !== null) {
        const photo = photos[number];
        card.replaceChildren();
        if (photo.source) {
          const image = document.createElement("img");
          image.src = photo.source;
          image.alt = "";
          card.append(image);
        }
        const label = document.createElement("b"), name = document.createElement("div");
        label.append(Object.assign(document.createElement("bdi"), { textContent: photo.label }));
        name.className = "quiet clip";
        name.append(Object.assign(document.createElement("bdi"), { textContent: photo.path }));
        card.append(label, name);
        card.style.left = `${Math.max(4, Math.min(x + 14, width - card.offsetWidth - 4))}px`;
        card.style.top = `${Math.max(4, y + 14 + card.offsetHeight > height ? y - card.offsetHeight - 14 : y + 14)}px`;
      }
      redrawMap();
    }
    function pick(event) {
      const [x, y] = d3.pointer(event, canvas);
      const found = delaunay.find(x, y);
      const isNear = found >= 0 && Math.hypot(points[found][0] - x, points[found][1] - y) < 28;
      show(isNear ? found : null, x, y);
    }
    canvas.addEventListener("pointermove", pick);
    canvas.addEventListener("pointerdown", pick);
    canvas.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") show(null); });

    redrawMap = () => {
      width = plot.clientWidth;
      height = plot.clientHeight;
      if (!width) return;
      const scale = window.devicePixelRatio || 1;
      canvas.width = width * scale;
      canvas.height = height * scale;
      const context = canvas.getContext("2d");
      context.scale(scale, scale);
      const range = (values) => { const [low, high] = d3.extent(values), gap = (high - low || 1) * 0.04; return [low - gap, high + gap]; };
      const xs = data.map.scores[map.x], ys = data.map.scores[map.y];
      const x = map.transform.rescaleX(d3.scaleLinear(range(xs), [margin.left, width - margin.right]));
      const y = map.transform.rescaleY(d3.scaleLinear(range(ys), [height - margin.bottom, margin.top]));
      points = xs.map((value, number) => [x(value), y(ys[number])]);
      delaunay = d3.Delaunay.from(points);
      svg.selectAll("*").remove();
      svg.attr("viewBox", `0 0 ${width} ${height}`);
      svg.append("g").attr("class", "axis").attr("transform", `translate(0 ${height - margin.bottom})`).call(d3.axisBottom(x).ticks(width / 90).tickSize(-(height - margin.bottom - margin.top)));
      svg.append("g").attr("class", "axis").attr("transform", `translate(${margin.left} 0)`).call(d3.axisLeft(y).ticks(height / 70).tickSize(-(width - margin.left - margin.right)));
      svg.append("text").attr("x", width - margin.right).attr("y", height - 6).attr("text-anchor", "end").text(`${axisName(map.x)} →`);
      svg.append("text").attr("transform", `translate(12 ${margin.top}) rotate(-90)`).attr("text-anchor", "end").text(`${axisName(map.y)} →`);
      context.beginPath();
      context.rect(margin.left, margin.top, width - margin.left - margin.right, height - margin.top - margin.bottom);
      context.clip();
      const size = Math.min(2, Math.sqrt(map.transform.k) * 0.5 + 0.5);
      const isFocused = (number) => map.focus === null || photos[number].labelNumber === map.focus;
      const order = d3.range(points.length).sort((a, b) => isFocused(a) - isFocused(b));
      for (const number of order) {
        const label = photos[number].labelNumber;
        draw(number, styleOf(label).color, isFocused(number) ? 0.85 : 0.12, size, path.get(label) ?? plain);
      }
      if (map.hover !== null) {
        const [px, py] = points[map.hover];
        context.globalAlpha = 1;
        context.beginPath();
        context.arc(px, py, 9, 0, 2 * Math.PI);
        context.lineWidth = 2;
        context.strokeStyle = getComputedStyle(plot).color;
        context.stroke();
      }
      function draw(number, color, alpha, factor, shape) {
        const [px, py] = points[number];
        context.save();
        context.translate(px, py);
        context.scale(factor, factor);
        context.globalAlpha = alpha;
        context.fillStyle = color;
        context.fill(shape);
        context.restore();
      }
    };
    new ResizeObserver(() => redrawMap()).observe(plot);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redrawMap());
  }

  const axisName = (number, suffix = ` ${t("of")}`) => {
    const share = data.shares[number] ?? 0;
    return `${t("component")} ${number + 1} (${formatShare(share, 1)}${suffix})`;
  };

  function drawMapControls() {
    const legend = document.getElementById("legend");
    if (!legend || !data.map.photos.length) return;
    document.querySelector("#plot canvas").setAttribute("aria-label", t("map"));
    for (const [id, key] of [["zoom-in", "zoomIn"], ["zoom-out", "zoomOut"], ["zoom-reset", "reset"]]) {
      const button = document.getElementById(id);
      button.setAttribute("aria-label", t(key));
      button.title = t(key);
    }
    for (const axis of ["x", "y"]) {
      const select = document.getElementById(`axis-${axis}`);
      select.replaceChildren(...data.map.scores.map((_, number) => new Option(axisName(number, ""), number)));
      select.value = map[axis];
      select.onchange = () => {
        map[axis] = +select.value;
        map.hover = null;
        document.querySelector("#plot .card").classList.remove("shown");
        redrawMap();
      };
    }
    const entries = data.legend.map((label) => [label, data.labels[label], styleOf(label)]);
    const counts = d3.rollup(data.map.photos, (group) => group.length, (number) => data.photos[number][1]);
    const buttons = entries.map(([label, name, style]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", String(map.focus === label));
      d3.select(button).append("svg").attr("width", 14).attr("height", 14).attr("viewBox", "-7 -7 14 14").attr("aria-hidden", "true")
        .append("path").attr("d", d3.symbol(style.shape, 60)()).attr("fill", style.color);
      const text = document.createElement("span"), count = document.createElement("span");
      text.append(Object.assign(document.createElement("bdi"), { textContent: name }));
      text.title = name;
      count.className = "quiet";
      count.textContent = formatNumber(counts.get(label) ?? 0);
      button.append(text, count);
      button.addEventListener("click", () => {
        map.focus = map.focus === label ? null : label;
        drawMapControls();
        redrawMap();
      });
      return button;
    });
    legend.replaceChildren(...buttons);
    const rest = d3.sum(counts, ([label, count]) => (data.legend.includes(label) ? 0 : count));
    if (rest) legend.append(Object.assign(document.createElement("p"), { className: "quiet small", textContent: `● ${t("other")}: ${formatNumber(rest)}` }));
  }

  // ---- charts ----
  function chart(element, height, label) {
    const width = Math.max(260, element.clientWidth);
    element.replaceChildren();
    return [d3.select(element).append("svg").attr("viewBox", `0 0 ${width} ${height}`).attr("role", "img").attr("aria-label", label), width];
  }

  function drawCurve() {
    const element = document.getElementById("curve");
    if (!element || !data.curve.length) return;
    const height = 300, margin = { left: 48, right: 16, top: 16, bottom: 40 };
    const [svg, width] = chart(element, height, t("curve"));
    const x = d3.scaleLinear([0, Math.max(data.curve.length, 2)], [margin.left, width - margin.right]);
    const y = d3.scaleLinear([0, 1], [height - margin.bottom, margin.top]);
    svg.append("g").attr("class", "axis").attr("transform", `translate(0 ${height - margin.bottom})`).call(d3.axisBottom(x).ticks(width / 90, "d"));
    svg.append("g").attr("class", "axis").attr("transform", `translate(${margin.left} 0)`).call(d3.axisLeft(y).tickValues([0, .25, .5, .75, 1]).tickFormat((value) => formatShare(value)).tickSize(-(width - margin.left - margin.right)));
    svg.append("text").attr("x", width - margin.right).attr("y", height - 6).attr("text-anchor", "end").text(`${t("components")} →`);
    const points = [[0, 0], ...data.curve.map((share, number) => [number + 1, share])];
    svg.append("path").attr("class", "area").attr("d", d3.area(([n]) => x(n), y(0), ([, share]) => y(share))(points.slice(0, data.k + 1)));
    svg.append("path").attr("class", "line").attr("d", d3.line(([n]) => x(n), ([, share]) => y(share))(points));
    const marks = [[data.k, "strong"], ...data.takes.map((count) => [count, ""])];
    for (const [count, style] of marks) {
      const share = style ? data.reached : data.curve[count - 1];
      if (share === undefined) continue;
      const isLate = x(count) > width - 150;
      svg.append("line").attr("class", "grid").attr("x1", x(count)).attr("x2", x(count)).attr("y1", y(share)).attr("y2", y(0));
      svg.append("circle").attr("class", style ? "dot" : "dot second").attr("cx", x(count)).attr("cy", y(share)).attr("r", 5);
      svg.append("text").attr("class", style).attr("x", x(count) + (isLate ? -9 : 9)).attr("y", y(share) + 18).attr("text-anchor", isLate ? "end" : "start")
        .text(`${formatNumber(count)} → ${formatShare(share, 1)}${style ? ` (${t("kept")})` : ""}`);
    }
  }

  function drawHistory() {
    const element = document.getElementById("history");
    if (!element) return;
    element.replaceChildren();
    const charts = [
      ["accuracy", [["accuracy_components", ""], ["accuracy_features", "second"]], null, (value) => formatShare(value, 1)],
      ["k", [["k", ""]], null, (value) => formatNumber(value)],
      ["mean", [["mean_shift", ""]], "mean_shift_limit", (value) => formatNumber(value, 2)],
      ["change", [["variance_change", ""]], "variance_change_limit", (value) => formatShare(value, 1)],
      ["missed", [["variance_missed", ""]], "variance_missed_limit", (value) => formatShare(value, 1)],
      ["cost", [["eur", ""]], null, (value) => formatNumber(value, 2)],
    ];
    for (const [name, series, limit, format] of charts) {
      const known = (key) => data.history.filter((run) => run[key] !== null && run[key] !== undefined);
      if (!series.some(([key]) => known(key).length)) continue;
      const figure = document.createElement("div"), title = document.createElement("h3"), body = document.createElement("div");
      title.textContent = t(name);
      body.className = "chart";
      figure.append(title, body);
      element.append(figure);
      const height = 150, margin = { left: 52, right: 12, top: 10, bottom: 24 };
      const [svg, width] = chart(body, height, t(name));
      const values = [...series.map(([key]) => key), ...(limit ? [limit] : [])].flatMap((key) => known(key).map((run) => run[key]));
      const [low, high] = d3.extent(values), isCount = name === "k";
      const gap = isCount ? 1 : Math.max(high - low, Math.abs(high) * 0.02, 0.02) * 0.25;
      const x = d3.scalePoint(data.history.map((run) => run.run), [margin.left, width - margin.right]).padding(0.5);
      const y = d3.scaleLinear([low < 0 || name === "accuracy" ? low - gap : Math.max(0, low - gap), high + gap], [height - margin.bottom, margin.top]).nice(3);
      if (name === "accuracy") y.domain([y.domain()[0], Math.min(1, y.domain()[1])]);
      // No text stands at two ticks: counts are whole, and other values are as precise as their format.
      const ticks = y.ticks(3).filter((value, number, all) => (isCount ? Number.isInteger(value) : !number || format(value) !== format(all[number - 1])));
      svg.append("g").attr("class", "axis").attr("transform", `translate(${margin.left} 0)`).call(d3.axisLeft(y).tickValues(ticks).tickFormat(format).tickSize(-(width - margin.left - margin.right)));
      const first = data.history[0], last = data.history.at(-1);
      for (const run of first === last ? [last] : [first, last]) {
        svg.append("text").attr("x", x(run.run)).attr("y", height - 6)
          .attr("text-anchor", first === last ? "middle" : run === first ? "start" : "end").text(new Date(run.finished_at).toLocaleDateString(lang));
      }
      if (limit) svg.append("path").attr("class", "limit").attr("d", d3.line((run) => x(run.run), (run) => y(run[limit]))(known(limit)));
      for (const [key, style] of series) {
        svg.append("path").attr("class", `line ${style}`).attr("d", d3.line((run) => x(run.run), (run) => y(run[key]))(known(key)));
        svg.selectAll(null).data(known(key)).join("circle").attr("class", `dot ${style}`).attr("r", 3.5)
          .attr("cx", (run) => x(run.run)).attr("cy", (run) => y(run[key]))
          .append("title").text((run) => `${new Date(run.finished_at).toLocaleString(lang)}: ${format(run[key])}`);
      }
    }
  }

  function drawTimeline() {
    const element = document.getElementById("timeline");
    if (!element || !data.timeline.length) return;
    const rows = data.timeline.map((part) => ({ ...part, start: new Date(part.start), end: new Date(part.end) }));
    const margin = { left: 120, right: 64, top: 6, bottom: 26 }, rowHeight = 30;
    const height = rows.length * rowHeight + margin.top + margin.bottom;
    const [svg, width] = chart(element, height, t("cluster"));
    const begin = d3.min(rows, (row) => row.start), end = d3.max(rows, (row) => row.end);
    const minutes = (row) => (row.end - row.start) / 60000;
    const x = d3.scaleLinear([0, Math.max((end - begin) / 60000, 0.1)], [margin.left, width - margin.right]);
    svg.append("g").attr("class", "axis").attr("transform", `translate(0 ${height - margin.bottom})`).call(d3.axisBottom(x).ticks((width - margin.left) / 90).tickFormat((value) => `${formatNumber(value, value % 1 ? 1 : 0)} min`));
    rows.forEach((row, number) => {
      const top = margin.top + number * rowHeight;
      const name = { start: t("starting"), end: t("ending") }[row.what] ?? row.name;
      svg.append("text").attr("x", margin.left - 8).attr("y", top + 19).attr("text-anchor", "end").text(name.length > 18 ? `${name.slice(0, 17)}…` : name).append("title").text(name);
      const left = x((row.start - begin) / 60000), right = x((row.end - begin) / 60000);
      svg.append("rect").attr("class", row.what === "step" ? "bar" : "bar idle").attr("x", left).attr("y", top + 4).attr("height", rowHeight - 10).attr("rx", 3).attr("width", Math.max(2, right - left));
      const value = minutes(row);
      svg.append("text").attr("x", right + 6).attr("y", top + 19).text(value < 1 ? `${formatNumber(value * 60)} s` : `${formatNumber(value, 1)} min`);
    });
  }

  function drawAll() {
    drawMapControls();
    redrawMap();
    drawCurve();
    drawHistory();
    drawTimeline();
  }

  for (const button of document.querySelectorAll(".switch button")) {
    button.addEventListener("click", () => setLanguage(button.dataset.lang, true));
  }
  fillPhotos();
  setUpMap();
  setLanguage(firstLanguage(), false);
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    drawAll();
  });
  for (const details of document.querySelectorAll("details")) details.addEventListener("toggle", drawTimeline);
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details.more")) details.open = true;
    drawAll();
  });
})();
