"use strict";
// The theme that the reader chose in Airflow; the system's, if none was chosen.
const followTheme = () => {
  let theme = null;
  try { theme = localStorage.getItem("theme"); } catch { /* the browser keeps nothing */ }
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
};
followTheme();
addEventListener("storage", followTheme);

// What is running is asked for again and again; when a run begins or ends, so is the whole page.
const refresh = async () => {
  const shown = document.getElementById("live");
  if (!shown) return;
  try {
    if (!document.hidden) {
      const answer = await fetch(shown.dataset.source, { cache: "no-store" });
      if (answer.redirected) { location.replace(answer.url); return; }
      const now = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
      if (answer.ok && now) {
        if (now.dataset.runs !== shown.dataset.runs) { location.reload(); return; }
        if (now.outerHTML !== shown.outerHTML) shown.replaceWith(now);
      }
    }
  } catch { /* the server does not answer: the next time, perhaps */ }
  setTimeout(refresh, 1000 * shown.dataset.seconds);
};
const live = document.getElementById("live");
if (live) setTimeout(refresh, 1000 * live.dataset.seconds);
